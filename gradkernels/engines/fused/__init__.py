"""One pass over the data, compiled by numba: what the `numba.fused` kernels are made of.

Loads numba, so that only builders of kernels import it. From a call to its result:

1. `quantities` and `products` are Python's side of each call: they make memory for the result; `chunks` cuts large
   batches.
2. `build` compiles what is missing and calls it. A driver is compiled once for each dtype, the slope once for each
   problem; arrays become addresses and steps, so that memory layouts need no code of their own.
3. `codegen` has what compiled code is written with: pointers, vectors, elementary functions, the problem's slope as
   machine code, threads.
4. `drivers` go through a chunk in blocks of rows: predictors, slopes, and from both the quantity, while the block is
   in cache.
5. Chunks of sums are joined in float64 in their order, so that the number of threads changes no digit.
"""
