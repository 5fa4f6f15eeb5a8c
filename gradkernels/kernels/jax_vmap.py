"""JAX: jit of vmap of the gradient of one sample's loss."""

from __future__ import annotations

from gradkernels.kernel import Compute, declare
from gradkernels.problems import Problem


@declare("jax.vmap.per_sample")
def per_sample(problem: Problem) -> Compute:
    """Build rows from jit(vmap(grad(loss))), compiled for each new shape."""
    import jax

    rows: Compute = jax.jit(jax.vmap(jax.grad(problem.loss), in_axes=(None, 0, 0)))
    return rows
