"""TorchJD: `jac` of the losses with respect to the parameters, a list in their order."""

from __future__ import annotations

from typing import Any

from gradkernels.problems.module.module_problem import ModuleProblem
from gradkernels.tool_audit.tools.arguments import RowsFunction, arguments_of, batch_of


def jacobian(problem: ModuleProblem) -> RowsFunction:
    """Make `f(x, y)` by `torchjd.autojac.jac`."""
    from torchjd.autojac import jac

    def rows(x: Any, y: Any) -> list[Any]:
        x, y, _ = batch_of(problem, x, y)
        args, kwargs = arguments_of(x)
        losses = problem.losses(problem.model(*args, **kwargs), y)
        return list(jac(losses, list(problem.parameters().values())))

    return rows
