"""The file format: one CSV, a row for each kernel, case and pass, read by people and machines for years.

- `results_file` is a file while a run writes to it: locked against other runs, appended to row by row and flushed, so
  that a run that is killed loses at most the row being written, and an old file is replaced only by a first row.
- `reader` reads files of any size for the commands: `parts` of whole lines, turned into columns at once by
  `arrow_rows`, or line by line where anything about them is unusual. What comes out is a `table`: rows by column;
  `turns` tells which of them one process timed in turns.
- `metadata` are the columns that say where and when: machine, versions, commit, start.
- `pytest_benchmark_json` reads the JSON that pytest-benchmark saved as the same rows.

Rows may stand in any order: their columns say of which case, kernel and pass they are. The row itself is
`gradkernels.record.Record`, which refuses a time without a proof. Files are self-contained: those of several machines
can be put one after the other. results/README.md in the repository explains every column.
"""
