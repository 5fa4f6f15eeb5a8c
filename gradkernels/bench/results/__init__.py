"""The file format: one CSV, a row for each kernel, case and pass, read by people and machines for years.

- `results_file` is a file while a run writes to it: locked against other runs, appended to row by row and flushed, so
  that a run that is killed loses at most the row being written, and an old file is replaced only by a first row.
- `reader` reads files of any size for the commands: `parts` of whole lines, turned into columns at once by
  `arrow_rows`, or line by line where anything about them is unusual. What comes out is a `table`: rows by column;
  `turns` tells which of them one process timed in turns.
- `merging` puts several files together, every measurement once.
- `metadata` are the columns that say where and when: machine, versions, commit, start.
- `importing` finds out which of the tools in `imports` saved a JSON file (`import_kinds` lists them) and has its module
  make rows: `imported` says what is common to them, `functions` how rows of a function are called, `json_values` looks
  at what stands there.

Rows may stand in any order: their columns say of which case, kernel and pass they are. The row itself is
`gradkernels.record.Record`, which refuses a time without a proof. Files are self-contained: those of several machines
can be put one after the other. results/README.md in the repository explains every column.
"""
