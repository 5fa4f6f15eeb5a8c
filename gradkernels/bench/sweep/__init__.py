"""Runs that are larger than one machine's share of time: cases dealt out, and put together again.

- `shards`: `3/16` of a run. Cases are dealt out like cards, the costly ones first, whole and each to one shard, by the
  plan alone; so that machines which know nothing of each other measure disjoint cases, and all of them the plan;
- `coverage`: which shards the rows of a merged file come from, by the names of their runs: what several of them have
  measured, and which shard is missing;
- `jobs`: a case as a job for any machine, which is measured there with nothing else beside it;
- `spread`: jobs at an executor of `concurrent.futures`, and their rows in one file, whatever dies, comes late or twice;
- `executors`: the executor of a dask scheduler, by its address.

Times of different machines are never compared with each other: a row says on what kind of machine it was measured, and
`gradkernels.bench.compare` takes kinds of machines as strata. A shard is a run like any other, with a file of its own
that nobody else writes to, that it may resume, and that `gradkernels merge` puts beside the others.
"""
