"""BackPACK: `BatchGrad`, whose rows have the 1/n of a mean loss by its documentation; it is multiplied out."""

from __future__ import annotations

from typing import Any

from gradkernels.problems.module.module_problem import ModuleProblem
from gradkernels.tool_audit.tools.arguments import RowsFunction, arguments_of, batch_of


def batch_grad(problem: ModuleProblem) -> RowsFunction:
    """Make `f(x, y)` of an extended model."""
    from backpack import backpack, extend
    from backpack.extensions import BatchGrad

    model = extend(problem.model)

    def rows(x: Any, y: Any) -> dict[str, Any]:
        x, y, n = batch_of(problem, x, y)
        parameters = problem.parameters()
        for one in parameters.values():
            one.grad = None
            vars(one).pop("grad_batch", None)
        args, kwargs = arguments_of(x)
        with backpack(BatchGrad()):
            problem.batch_loss(model(*args, **kwargs), y).backward()
        times = n if problem.reduction == "mean" else 1
        found = {name: getattr(one, "grad_batch", None) for name, one in parameters.items()}
        return {name: part if part is None else part * times for name, part in found.items()}

    return rows
