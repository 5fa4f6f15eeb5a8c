"""`gradkernels ab`: two revisions of a repository, timed in turns on one core until the verdict is settled.

1. `revisions` checks both out by `git`, with their `submodules`, in folders that are gone afterwards (`rooms`);
2. `kernels` asks both which kernels they have and picks those that were asked for;
3. `client` starts a worker on each side and sends it orders; `messages` are what they say to each other;
4. `worker` runs this harness over that revision's library: it proves a kernel and times slices of it. So it uses only
   what old revisions have: backend, case, check, kernel, problems, registry and tree;
5. `interleaved` lets both sides take turns, slice by slice;
6. `sequential` stops when a verdict is settled, in at most three looks; `session` puts it together beside a canary.

`turns` is the token that goes between two workers, `origin` sees that each has imported its own revision. Tests for
pytest-benchmark are timed by workers of their own (`benchmarks`).

`selftest` measures how often all this is wrong: A against A, and A against A with 2, 3 and 5% more work.
"""
