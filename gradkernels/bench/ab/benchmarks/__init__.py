"""Any test of pytest-benchmark, timed in turns on two revisions: `gradkernels ab A B --tests tests/bench_x.py`.

Each side is a process with a pytest session of its own, over the tests of its own revision:

1. `choose` asks both sides which tests use the fixture `benchmark`, and pairs them by their names;
2. `worker` collects the tests of a pass (`items`) and runs one after the other, when it is told to;
3. within a test, where the fixture is called, `fixture` takes over: it calls the function for the first time, says
   that it is ready, and times slices of it in turns with the other side, as `gradkernels.bench.ab.turns` does for
   kernels; then the test goes on with what a last call has returned.

What a test asserts is the proof of what it calls: a time of a test that fails does not count. The rows have the names
that imported files of pytest-benchmark have (`gradkernels.bench.results.functions`).
"""
