"""The harness: measure, record, compare and report. It stands on the library, which never imports it.

One run, from plan to verdict:

1. `run` makes a plan of the cases and kernels and their random order, and opens the file of `results`;
2. `isolation` starts a fresh process for each pass, and ends it for sure when it hangs or takes too much memory;
3. there `timing` prepares each kernel of a case, proves it, times all of them in turns, and proves them again;
4. each measurement comes back as a message and is appended to the file as one record;
5. `run` ranks the kernels of a file; `compare` pairs the records of two files and takes ratios over passes;
6. `stats` turns ratios into intervals, and these into verdicts: slower, faster, same or undecided;
7. `report` makes tables, sentences and pictures of all that, and `cli` prints them and picks the exit code.

Beside this line: `race` finds the fastest kernel for a caller's own arrays, `ab` times two revisions of the code in
turns, `pytest_plugin` does the same for pytest-benchmark sessions, `doctor` says whether a machine can be trusted for
timing, `sweep` deals a run out to several machines; `api` is all of it from Python and notebooks.
"""
