"""The report: results files as one HTML page, which opens from a disk without a network.

1. `sources` sorts the rows by file and commit, and picks what is shown of each case: its newest measurement;
2. `families` puts rankings and measurements together: the curves of one quantity over n, with limits, memory, first
   calls and proofs; `crossings` finds where one winner overtakes another, `calls` who wins if a kernel is called once,
   ten times and so on, `proofs` how close each proof came to its tolerance;
3. `history` compares each case with the measurement before it, by the verdicts of `gradkernels compare`;
4. `overview` lays the winners out as tables, `provenance` says where everything was measured;
5. `contents` gathers all that for the template, and `script_data` makes one JSON value of it for the page's script;
6. `html` writes the page: the template, style and script of the folder `static`, and plotly's script beside them.

Everything but `html` is plain data. Text of results files becomes HTML in one place, the template, which escapes it;
the script of the page writes it as text only.
"""
