"""jax_privacy: a row is the clipped sum of a batch whose other samples are marked as padding, with no limit."""

from __future__ import annotations

from typing import Any

from gradkernels.problems import FunctionProblem
from gradkernels.tool_audit.tools.arguments import RowsFunction
from gradkernels.tree import count, each


def clipped(problem: FunctionProblem) -> RowsFunction:
    """Make `f(x, y)`, or `f(theta, x, y)`, by `clipped_grad`, compiled; of no samples it is called once."""
    import jax
    import jax_privacy
    from jax import numpy as jnp

    def loss(theta: Any, x: Any, y: Any) -> Any:
        return problem.sample_losses(theta, x, y)[0]

    of_sum = jax.jit(jax_privacy.clipped_grad(loss, l2_clip_norm=jnp.inf, batch_argnums=(1, 2)))

    def rows(*data: Any) -> Any:
        theta, x, y = problem.as_inputs(*(data if len(data) > 2 else (None, *data)))
        n = count(y)
        alone = [of_sum(theta, x, y, is_padding_example=jnp.arange(n) != i) for i in range(max(1, n))]
        return each(lambda *parts: jnp.stack(parts)[:n], *alone)

    return rows
