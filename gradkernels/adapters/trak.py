"""A gradient computer for TRAKer: per-sample gradients, or their projections, by the fastest proven kernel."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from gradkernels.adapters.missing import missing
from gradkernels.adapters.model_call import ModelCall, problem_of, recorded_call, require_same
from gradkernels.fastest.of_gradients import per_sample
from gradkernels.fastest.products import project
from gradkernels.problems.module.module_problem import ModuleProblem

try:
    from trak.gradient_computers import FunctionalGradientComputer
except ImportError as error:
    raise missing("traker", "trak", error) from error


class GradientComputer(FunctionalGradientComputer):
    """Takes the place of TRAK's own: `TRAKer(..., gradient_computer=GradientComputer)`.

    Args:
        model: Module.
        task: Model output function; it calls the model once for a sample.
        grad_dim: Number of its parameters.
        dtype: As trak has it: what features are kept in.
        device: Of features.
        grad_wrt: Names of the only parameters that are differentiated by.
        projection: Options of `gk.project`, whose results take the place of rows; None for rows. See `projected`.
    """

    def __init__(
        self,
        model: nn.Module,
        task: Any,
        grad_dim: int | None = None,
        dtype: Any = None,
        device: Any = "cuda",
        grad_wrt: Iterable[str] | None = None,
        projection: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(model, task, grad_dim, dtype, device, grad_wrt)
        self._projection = projection
        self._parameters = None if grad_wrt is None else list(grad_wrt)
        self._problem: ModuleProblem | None = None
        self._call: ModelCall | None = None

    def load_model_params(self, model: nn.Module) -> None:
        """Take over the weights of a checkpoint that the model has loaded."""
        super().load_model_params(model)
        self.model = model

    def compute_per_sample_grad(self, batch: Sequence[Tensor]) -> Any:
        """Compute the gradient of each sample's model output: by parameter `(n, *shape)`, or projected `(n, size)`.

        Args:
            batch: Tensors, samples first, as the task takes those of one sample.

        Raises:
            ValueError: Frozen parameters, which trak's own computer differentiates by and a problem does not; a task
                that does more with the model than to call it once.
        """
        if self._problem is None or self._call is None or self._problem.model is not self.model:
            self._problem, self._call = self._proven(batch)
        x, y = self._call.inputs(batch), tuple(batch)
        if self._projection is None:
            return per_sample(self._problem, None, x, y, parameters=self._parameters)
        rows = project(self._problem, None, x, y, parameters=self._parameters, **self._projection)
        return rows * self._projection["size"] ** 0.5  # trak's entries are N(0, 1)

    def _proven(self, batch: Sequence[Tensor]) -> tuple[ModuleProblem, ModelCall]:
        """Read off how the task calls the model; hold a first sample's gradient against that of its own function."""
        self._require_trainable()
        problem, call = problem_of(self._output, self.model), recorded_call(self._output, self.model, batch)
        first = tuple(one[:1] for one in batch)
        rows = per_sample(problem, None, call.inputs(first), first, parameters=self._parameters)
        of_task = torch.func.grad(self.modelout_fn.get_output, argnums=1)
        weights = self.func_weights, self.func_buffers
        require_same(of_task(self.model, *weights, *(one[0] for one in batch)), rows)
        return problem, call

    def _output(self, model: nn.Module, *sample: Tensor) -> Tensor:
        output: Tensor = self.modelout_fn.get_output(model, {}, {}, *sample)
        return output

    def _require_trainable(self) -> None:
        wanted = self._parameters or list(self.func_weights)
        frozen = [name for name in wanted if not self.func_weights[name].requires_grad]
        if frozen:
            raise ValueError(
                f"{frozen[0]} and {len(frozen) - 1} more parameters do not require gradients; name those that do in "
                "grad_wrt=, or call requires_grad_(True)"
            )


def projected(size: int, *, seed: int = 0, kind: str = "gaussian") -> Any:
    """Return a gradient computer that projects within the backward pass, so that no rows are formed.

    It goes with `projector=NoOpProjector(proj_dim=size, device=...)`. The matrix is the same for every checkpoint.

    Args:
        size: Dimensions of a feature.
        seed: Of the matrix.
        kind: `gaussian`, or `factored` (see `gk.project`).
    """
    return partial(GradientComputer, projection={"size": size, "seed": seed, "kind": kind})
