"""One pass over the data: what the `numba.fused` kernels are made of. Loads numba, so only their builders import it."""
