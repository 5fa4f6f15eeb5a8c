"""JAX, one backward pass of the mean loss over the full batch."""

from __future__ import annotations

from gradkernels.backend import Array
from gradkernels.kernel import Compute, declare
from gradkernels.problems import Problem
from gradkernels.tree import Tree


@declare("jax.grad.gradient")
def gradient(problem: Problem) -> Compute:
    """Build jit(grad(mean(loss))), compiled for each new shape."""
    import jax

    def mean(theta: Array, x: Array, y: Tree) -> Array:
        return problem.sample_losses(theta, x, y).mean()

    total: Compute = jax.jit(jax.grad(mean))
    return total
