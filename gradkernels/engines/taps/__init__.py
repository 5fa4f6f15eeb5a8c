"""Per-sample gradients of any JAX function from its equations: the ways called `jax.hooks`.

1. `program` traces the loss of one sample, lays its equations out in one line, calls inlined, and tells apart what is
   made of parameters alone, what depends on the sample, and the sites where the two meet.
2. `contributions` runs that line under `jax.vmap` with a tap, an addend of zero, on the output of each site. One
   backward pass to the taps gives each site's output gradient, beside the operands that the forward pass left.
3. `rules` say what follows for a weight that one matrix product, look-up or convolution (`convolutions`) uses: two
   factors, whose product is its gradient (`matrix_factors`). Everything else is differentiated by the vjp of its
   equation alone, and pulled back to the parameters: arithmetic, loops, parameters that are shared or made of others.
4. `lengths`, `sums` and `projections` are made of factors without rows (Goodfellow 2015, arXiv:1510.01799; Choe et al.
   2024, arXiv:2405.13954). `quantities` compiles them, and inner products.

The line is that of a batch of one sample, so that no axis has to be guessed. What cannot be tapped is an `Unfit`.
"""
