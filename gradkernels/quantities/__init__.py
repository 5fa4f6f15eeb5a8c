"""The quantities, a file each: what is asked of the per-sample gradients, and what results are held against.

A file has one `Quantity`, or two that are alike, with two definitions that share nothing:

1. `of(xp, g, **options)` in operations that numpy, torch and `jax.numpy` share: every kernel of per-sample gradients
   has the quantity by it;
2. `expect(truth, **options)` from the float64 gradients of the reference, with the scale of each entry's rounding:
   every kernel is held against it.

Those of the gradients themselves: `gradient`, `per_sample`, `norms`, `norms_by`, `moments`. Sums over samples:
`clipped_sum`, `clipped_sum_by`, `weighted_sum`, `group_sums`, `outer`. Of each sample, or of pairs: `inner`, `project`,
`gram`, with `gram_by` in its file. Of a model's outputs, which no loss is made of: `jacobian`.
`shared` has what several of them need. `gradkernels.quantity` finds them here.
"""

import gradkernels.quantity  # noqa: F401  it loads the files, each of which begins with it
