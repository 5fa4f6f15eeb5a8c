"""Everything that makes text or pictures: a new format is one file here and one line in the command that offers it.

| of what | sentences | tables (terminal, Markdown, CSV, JSON) | pictures |
|---|---|---|---|
| a run | `ranking_text` | `ranking_table` | `pictures` |
| a comparison | `comparison_text`, `comparison_caveats` | `comparison_table` | |
| one set of results | | `summary_table` | |
| the kernels there are | | `catalogue_table`, of `catalogue` | |
| an estimate | `estimate_text` | `estimate_table`; `estimate_file` reads it back | `pictures` |

`terminal` prints a table of any of these on a terminal of any width, and `units` writes the numbers of all of them.
`colours` says how a way looks, in every picture and on every page; `page` makes an
HTML page of runs and comparisons.

Modules here take what `run`, `compare` and `estimate` give, and return strings or write an image; they measure
nothing and decide nothing.
"""
