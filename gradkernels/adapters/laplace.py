"""Backends for laplace-torch: gradients and Jacobians of all samples by the fastest proven kernel."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gradkernels.adapters.missing import missing
from gradkernels.fastest.of_gradients import per_sample
from gradkernels.fastest.outputs import jacobian
from gradkernels.problems.module.module_problem import ModuleProblem

try:
    from laplace.curvature import EFInterface, GGNInterface
except ImportError as error:
    raise missing("laplace-torch", "laplace", error) from error


FLAT: Any = {"flat": True}


class SampleRows:
    """Has `gradients` and `jacobians` of laplace's interface from per-sample gradients; those of a last layer stay."""

    def gradients(self, x: Any, y: Tensor) -> tuple[Tensor, Tensor]:
        """Compute each sample's gradient of the loss, `(n, P)`, and the sum of the losses."""
        own: Any = self
        if own.last_layer:
            return super().gradients(x, y)  # type: ignore[misc]
        rows = per_sample(self._problem("_of_loss", own.lossfunc), None, x, y, **FLAT)
        with torch.no_grad():
            return self._of_subnetwork(rows), own.lossfunc(own.model(x), y)

    def jacobians(self, x: Any, enable_backprop: bool = False) -> tuple[Tensor, Tensor]:
        """Compute the Jacobian of each sample's outputs, `(n, c, P)`, and the outputs `(n, c)`.

        Args:
            x: Inputs of the model, samples first.
            enable_backprop: Whether to be differentiable; then laplace's own are taken.
        """
        own: Any = self
        if enable_backprop or own.last_layer:
            return super().jacobians(x, enable_backprop)  # type: ignore[misc]
        with torch.no_grad():
            outputs = own.model(x)
        if outputs.ndim != 2:
            return super().jacobians(x)  # type: ignore[misc]
        rows = jacobian(self._problem("_of_outputs", None), None, x, flat=True)
        return self._of_subnetwork(rows), outputs

    def _problem(self, kept: str, loss_fn: Any) -> ModuleProblem:
        own: Any = self
        problem: ModuleProblem | None = vars(self).get(kept)
        if problem is None or problem.model is not own.model:
            problem = vars(self)[kept] = ModuleProblem(own.model, loss_fn, reduction="sum", mixing="own")
        return problem

    def _of_subnetwork(self, rows: Tensor) -> Tensor:
        own: Any = self
        return rows if own.subnetwork_indices is None else rows[..., own.subnetwork_indices]


class GGN(SampleRows, GGNInterface):
    """The generalized Gauss-Newton backend: `Laplace(..., backend=GGN)`."""


class EF(SampleRows, EFInterface):
    """The empirical Fisher backend: `Laplace(..., backend=EF)`."""
