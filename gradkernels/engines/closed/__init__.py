"""Closed forms of regressions, written by hand once for numpy and torch.

A regression's per-sample gradient is slope * (1, x) plus the penalty's, so that every quantity follows from the
slopes and a product or two with the features. `blocks.ClosedForms` computes the first five, `products` what takes
weights, directions or groups:

1. x and y are cut into blocks of rows that stay in a core's cache;
2. the problem gives the slopes of a block;
3. the block is used for the quantity while it is in cache: rows are written, norms taken, or sums added in float64;
4. sums of all blocks are joined, and the penalty is added once.

No array of the size of the rows is ever made but the result of `per_sample`. The kernels `numpy.blocked.*` and
`torch.closed.*` choose the library, the rows of a block and its memory.
"""
