"""jax_privacy's `clipped_grad` with norms and clipped sums from taps, where that is proven and faster.

The changed line is the import: `from gradkernels.adapters.jax_privacy import clipped_grad`. Signature and result are
those of jax_privacy.

1. `sample_call` takes a call apart: parameters, arrays of samples, and the jaxpr of one sample's loss. `options` are
   what was asked for.
2. `tapped_sum` computes a batch of it: by `gradkernels.engines.taps`, and by jax_privacy's own function.
3. `decision` has both compute numbers that it draws for these shapes, compares norms and sums, and lets them take
   turns; what it found is kept with the text of the jaxpr.
4. `clipped_gradients` has the function of that name, which calls jax_privacy's own wherever taps are no gain, are not
   proven, or do not apply: outside of `jax.jit`, for parameters of low precision, with a transform of single gradients.

A batch with a gradient that is not finite is left to jax_privacy, one sample at a time, so that zeros take the place
of the same entries.
"""

from gradkernels.adapters.missing import missing

try:
    import jax_privacy as _jax_privacy  # noqa: F401
except ImportError as error:
    raise missing("jax_privacy", "jax_privacy", error) from error

from gradkernels.adapters.jax_privacy.clipped_gradients import clipped_grad as clipped_grad
