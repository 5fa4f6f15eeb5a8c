"""A race: which kernel is fastest here and now, on a caller's own arrays, within so many seconds.

It is a run of `bench.run` with three differences:

1. `plan` says which kernels take part, as far as the seconds allow for what they have to load and to compile first,
   and hands problem and arrays to the measuring processes;
2. `elimination` drives a session of `bench.run` pass by pass: what is surely slower drops out, what compiles comes
   last, and no pass begins that could not end in time;
3. `race` saves what was found as this machine's choice and returns the winner, bound;

`progress` shows a line meanwhile, on a terminal and in a notebook. `run --race` is the second of these for a plan from
the command line.
"""
