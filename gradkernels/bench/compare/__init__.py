"""Two sets of results against each other, case by case: `gradkernels compare`.

1. `matching` pairs the rows that measure the same thing, by the machine, case and kernel that `places` tells of them;
   `logs` divides each by the control of its pass, and `shared_passes` lets no time be compared with itself;
2. `compare` takes the ratio of each pair over passes and has `gradkernels.bench.stats` judge it;
   `strata` has for several kinds of machines the mean of their ratios;
3. `thresholds` says what counts as a change and what fails, `thresholds_toml` reads that from a file;
4. `canary` is the control under another name: where it seems to change, the machine did, and no verdict stands;
5. `comparison` is what comes out: a row for each kernel and case, and what the rows say together;
6. `exit_codes` makes one number of it, the same for every command that gives a verdict.

`summary` has a row for each case and kernel of one set of results (`gradkernels summary`). `ab_command` writes down the
command that measures an undecided comparison again, side by side.
"""
