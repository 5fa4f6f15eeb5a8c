"""Weights that are made of parameters alone: a layer's use of one becomes uses of the parameters behind it.

A layer's rule says what the rows of the weight are, for each sample; those of the parameters are what the function that
made the weight takes them back to.

- `recipes` remembers, as the forward pass runs, how some weights were made: by a factor for each entry (masks,
  dropout), or by weight norm. `remade` and `normed` have their algebra.
- Any other weight of a linear map, and what is made for biases and scales, is followed back through autograd's own
  graph. `way_back` finds the way from the weight to its parameters when the layer is called; `pulled` goes it when the
  gradient of the layer's output has come, for all samples at once. Rows of a linear map stay sums of outer products
  through what `nodes` knows (sums, products with numbers, rows or columns, matrix products, reductions), in the form
  that `samples` has, so that no row is formed: W + B A gives the two linear maps of LoRA, W / (u W v) a linear map of
  two steps.

What has no such way (a matrix exponential, autocast's casts) is taken back by autograd, a few rows at a time
(`gradkernels.engines.hooks.accumulate.pulling`).
"""
