"""The commands, a module each: a function whose parameters are its options and whose docstring is its help.

A command goes the same way in each of them:

1. options arrive as typed; `gradkernels.bench.cli.parse` makes values of them, or raises a sentence;
2. what could not be written in the end is refused before anything is computed (`gradkernels.bench.cli.files`);
3. a room of the harness does the work;
4. `gradkernels.bench.report` prints what came of it, and the function returns the exit code.

`run` measures, `ab` times two revisions in turns, `compare` gives verdicts on files, `fastest` ranks, `summary` has a
row for each case and kernel, `merge` makes one file of several, `import_json` one of what other tools saved,
`list_kernels` lists, `audit` proves other tools' gradients, `plot` draws, `report` writes an HTML page, `estimate`
looks at mini-batches, `doctor` at the machine.
"""
