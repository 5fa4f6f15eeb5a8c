"""laplace-torch: the gradients that its empirical Fisher is made of, with the problem's loss for its likelihood's."""

from __future__ import annotations

from typing import Any

from torch import nn

from gradkernels.problems.module.inputs import unfolded
from gradkernels.problems.module.module_problem import ModuleProblem
from gradkernels.tool_audit.tools.arguments import RowsFunction, batch_of


def gradients(problem: ModuleProblem) -> RowsFunction:
    """Make `f(x, y)` by `EFInterface.gradients`, flat."""
    from laplace.curvature import EFInterface

    backend = EFInterface(problem.model, "classification")
    backend.lossfunc = OfModule(problem.loss_fn)

    def rows(x: Any, y: Any) -> Any:
        x, y, _ = batch_of(problem, x, y)
        found, _ = backend.gradients(unfolded(x), unfolded(y))
        return found

    return rows


class OfModule(nn.Module):
    """A loss as the module that laplace-torch calls.

    Args:
        loss_fn: `loss_fn(output, y)`.
    """

    def __init__(self, loss_fn: Any) -> None:
        super().__init__()
        self.loss_fn = loss_fn

    def forward(self, output: Any, y: Any) -> Any:
        """Compute the loss of a batch."""
        return self.loss_fn(output, y)
