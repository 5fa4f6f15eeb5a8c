"""Pictures of what was measured: what one shows is plain values, found before anything is drawn.

| module | does |
|---|---|
| `kinds`, `units` | what stands on the axis of each kind, and round values with their units |
| `content` | a picture as values: kind, title, panels, series, marks |
| `measured` | from rows to marks: medians and their intervals over passes |
| `baseline` | which way others are compared with |
| `finding` | what is found, as a sentence that says no more than the ranking |
| `captions` | what panels are called, and the notes below them |
| `run_content` | puts these together for a run |
| `draw` | sets title, panels and notes on a page that is as large as they need |
| `lines`, `bars` | the forms of a panel: over several sizes, and at one |
| `labels`, `layout` | names at the ends of lines, and everything in inches: nothing is cut, nothing lies over another |
| `estimate` | the picture of `gradkernels estimate`, which has a form of its own |

How a way looks is told by `gradkernels.bench.report.colours`. Only the last four lines of the table need matplotlib.
"""
