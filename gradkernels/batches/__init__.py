"""Data that come in batches: `gk.over(loader)` asks a quantity of all samples of a DataLoader, or any iterable.

A call such as `gk.over(loader).norms(problem)` goes this way:

1. `over` is what people call; `over_batches` has a method for each quantity, which says what becomes of results of
   batches, and `asking` makes of its arguments what is asked of each batch;
2. `loading` goes through the batches, and computes each by the function of `gk`;
3. `sums` adds results of batches up in float64; rows go into `row_memory`, or into `row_files` (NPY) and `zarr_rows`,
   files that are whole after each batch. `pairs` has products of all samples with each other;
4. `resume` says in `notes` beside such a file how many batches it has and of what, by a thread of `saving`, so that the
   same call goes on with the next; `sum_files` keeps a sum in a file with such a note;
5. under torch.distributed, by `agreement`, ranks compare what they were asked, and `ranks` has their sums added up.
"""
