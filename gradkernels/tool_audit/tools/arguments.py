"""How a model is called by torch's functions: positional and named arguments, of a batch or of one sample."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gradkernels.problems.module.inputs import unfolded
from gradkernels.problems.module.module_problem import ModuleProblem
from gradkernels.tree import Tree, count, each

RowsFunction = Callable[[Any, Any], Any]
"""`f(x, y)`, which returns per-sample gradients."""


def arguments_of(x: Tree) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return x as the model takes it: `**x`, `*x` or x."""
    given = unfolded(x)
    if isinstance(x, dict):
        return (), given
    return (tuple(given), {}) if isinstance(x, tuple) else ((given,), {})


def loss_of_one(problem: ModuleProblem) -> Callable[..., Any]:
    """Return `loss(parameters, buffers, x, y)` of one sample, without its axis, by `torch.func.functional_call`."""
    from torch.func import functional_call

    def loss(parameters: Any, buffers: Any, x: Tree, y: Tree) -> Any:
        args, kwargs = arguments_of(each(lambda array: array[None], x))
        output = functional_call(problem.model, (parameters, buffers), args, kwargs)
        return problem.loss_fn(output, unfolded(each(lambda array: array[None], y)))

    return loss


def batch_of(problem: ModuleProblem, x: Any, y: Any) -> tuple[Tree, Tree, int]:
    """Return x and y as trees, and the number of samples.

    Args:
        problem: For what is the same for all samples.
        x: Inputs as a caller has them.
        y: Targets as a caller has them.
    """
    x, y = problem.prepared(x, y)
    return x, y, count(y)
