"""JAX: the gradient of one sample's loss after the other, by `jax.lax.map`."""

from __future__ import annotations

from gradkernels.backend import Array
from gradkernels.kernel import Compute, declare
from gradkernels.problems import FunctionProblem
from gradkernels.tree import Tree


@declare("jax.loop.per_sample", problems=FunctionProblem, loops=True)
def per_sample(problem: FunctionProblem) -> Compute:
    """Build rows from jit(map(grad(loss))): the memory of one sample's pass at a time."""
    import jax

    def rows(theta: Tree, x: Tree, y: Tree) -> Tree:
        def row(sample: tuple[Tree, Tree]) -> Array:
            return jax.grad(problem.loss)(theta, *sample)

        return jax.lax.map(row, (x, y))

    compiled: Compute = jax.jit(rows)
    return compiled
