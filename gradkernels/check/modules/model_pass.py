"""A model holding everything in one dtype, with data and leaves to differentiate by: passes of single samples."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradkernels.problems.module.black_box import BlackBox
from gradkernels.problems.module.conversion import dense
from gradkernels.problems.module.input_writes import recording_writes
from gradkernels.problems.module.output_axes import output_axes_of
from gradkernels.problems.module.random_state import rng_devices, rng_state
from gradkernels.problems.module.split_output import SplitOutput
from gradkernels.problems.module.structure import as_dtype, swapped_parameters, with_copied_tensors
from gradkernels.tree import Tree, count, each, take, with_constants
from gradkernels.truth import Floats

FLOAT64, FLOAT32, OWN_DTYPES = "float64", "float32", "own"
"""What the model holds for a pass: everything in one dtype, or each parameter in its own."""

WRITES_BUFFER = (
    "the model writes to its buffer {name} when it is called, so that what a sample gives depends on those before it; "
    "call model.eval(), or leave the buffer as it is"
)


@dataclass(frozen=True)
class ModelPass:
    """The model, holding everything in one dtype, with the data and leaves to differentiate by."""

    problem: BlackBox
    theta: Any
    x: Tree
    y: Tree
    device: Any
    draws: list[bool]

    def rows(self, samples: Any) -> Floats:
        """Compute per-sample gradients, float64 `(len(samples), p)`, by one backward pass each."""
        result = np.empty((len(samples), sum(one.numel() for one in self.theta.values())))
        with recording_writes(self.problem.model, self.x, self.y) as mine:
            for row, i in zip(result, samples, strict=True):
                with self.problem.seeded():
                    before = rng_state(self.device)
                    row[:] = self._backward(self.problem.loss(self.theta, *take(mine, int(i))))
                    self.draws.append(rng_state(self.device) != before)
        return result

    def gradient(self) -> Floats | None:
        """Differentiate the mean of all losses, `(p,)`; None where a batch has no losses of its samples."""
        output = self.problem.output(self.x)
        apart = SplitOutput(output, output_axes_of(self.problem.model).have_samples(output, count(self.y)))
        batch = self.problem.batch_loss(apart.of_batch([one.clone() for one in apart.tensors]), self.y)
        try:
            losses = self.problem.losses(output, self.y)
        except Exception:  # an output of a kind of its own, say: only the model can take single samples then
            return None
        if batch.numel() != 1:
            raise ValueError(f"loss_fn returned shape {tuple(batch.shape)}; it must be a scalar, the mean or the sum")
        require_mean_or_sum(self.problem, losses, batch)
        return self._backward(losses.mean())

    def drawn(self) -> bool:
        """Tell whether any sample's loss has drawn random numbers."""
        return any(self.draws)

    def _backward(self, loss: Any) -> Floats:
        import torch

        parts = torch.autograd.grad(loss, list(self.theta.values()), materialize_grads=True)
        return np.concatenate([dense(part).double().numpy(force=True).ravel() for part in parts])


@contextmanager
def model_pass(problem: BlackBox, theta: Any, x: Tree, y: Tree, dtype: str) -> Iterator[ModelPass]:
    """Let a model and its loss hold everything in one dtype, and put them back afterwards.

    Args:
        problem: A model and its loss.
        theta: Parameters by name, numpy arrays.
        x: Inputs of n samples.
        y: Targets.
        dtype: Of all tensors, or `OWN_DTYPES` for each in its own.

    Raises:
        ValueError: The model writes to its buffers.
    """
    import torch

    kind = None if dtype == OWN_DTYPES else getattr(torch, dtype)
    device = next(iter(problem.parameters().values())).device

    def put(array: Any, own: Any = None) -> Any:
        tensor = torch.from_numpy(np.array(array)).to(device)
        return as_dtype(tensor, kind or (own.dtype if own is not None else torch.get_default_dtype()))

    def put_constant(value: Any) -> Any:
        return as_dtype(value, kind) if kind and isinstance(value, torch.Tensor) else value

    modules = [one for one in (problem.model, problem.loss_fn) if isinstance(one, torch.nn.Module)]
    with torch.inference_mode(False), torch.enable_grad(), torch.random.fork_rng(rng_devices(device)):
        places = problem.sites()
        own = problem.parameters()
        leaf = {name: put(array, own.get(name)) for name, array in theta.items()}
        leaf = {name: one.requires_grad_() for name, one in leaf.items()}
        with with_copied_tensors(modules, kind) as written, swapped_parameters(places, leaf):
            x, y = with_constants(put_constant, each(put, (x, y)))
            yield ModelPass(problem, leaf, x, y, device, [])
    if written:
        raise ValueError(WRITES_BUFFER.format(name=written[0]))


def require_mean_or_sum(problem: BlackBox, losses: Any, batch: Any) -> None:
    """Refuse a loss that is the other reduction of its samples' losses; class weights make it neither.

    Args:
        problem: For the reduction that it states.
        losses: Of the samples `(n,)`.
        batch: The loss of the batch, a scalar.
    """
    n = len(losses)
    reduced = {"mean": losses.mean(), "sum": losses.sum()}
    other = "sum" if problem.reduction == "mean" else "mean"
    off = {name: abs(float(batch.detach() - value.detach())) for name, value in reduced.items()}
    size = float(losses.detach().abs().sum())
    if off[other] <= 1e-6 * size < off[problem.reduction] * n:
        raise ValueError(
            f"reduction={problem.reduction!r}, but loss_fn of a batch of {n} is the {other} of its samples' losses, "
            f"off by the factor n; make the ModuleProblem with reduction={other!r}"
        )
