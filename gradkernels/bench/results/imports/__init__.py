"""Files of other tools as rows of results: a module for each tool, named as `gradkernels import --kind` names it.

- `pytest_benchmark` reads what pytest-benchmark saves. Of kernels that the fixture `gradkernels_benchmark` timed, the
  rows are those that the session itself would have written; other benchmarks become functions.
- `pyperf` has several processes in one file, each of which is a pass.
- `google_benchmark` and `asv` have one.

A module here has two functions, and adding one touches no other file: `recognises(document)` says whether a JSON
document is of its tool, and `read(file)` makes records of an `ImportedFile`. `import_kinds` beside this room finds the
modules, and `importing` asks them.

What no proof stands behind is told by the column `reason`: the problem is `function:NAME`, the error 0 of a tolerance
of 0, and the times are those of the tool, in seconds per call. A benchmark with one whole number for a parameter
has it for its n, so that times of several sizes are a curve.
"""
