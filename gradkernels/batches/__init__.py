"""Data that come in batches: `gk.over(loader)` asks a quantity of all samples of a DataLoader, or any iterable.

A call such as `gk.over(loader).norms(problem)` goes this way:

1. `over` is what people call, with a method for each quantity, which says what becomes of results of batches; `asking`
   makes of its arguments what is asked of each batch;
2. `stream` goes through the batches, and `prefetch` loads the next ones in a thread meanwhile; `batch` makes of what a
   loader yields x and y where theta is, counts samples, and takes `digests` of them where they are to be known again;
3. `batch_call` computes one batch by the function of `gk`, with its part of options by sample, or names the batch;
4. `sums` adds results of batches up in float64; rows go into `row_memory`, or into `row_files`, a file that is whole
   after each batch. `pairs` has products of all samples with each other;
5. `resume` notes beside such a file how many batches it has and of what, so that the same call goes on with the next.

`progress` says how far it is.
"""
