"""The independent reference for modules: one backward pass per sample, in float64, through the model as it is.

The rounding scale of a row is its norm: a whole network rounds more than one inner product, and every entry shares
in it. Where a loss is nearly flat a row is a small difference of large numbers; no working precision can know it to
its own size, so the scale is at least what the same pass in float32 is off by, in units that leave a kernel
`FLOAT32_SLACK` times that error.

The gradient is one backward pass of the mean loss of the whole batch. That it must be the mean of the rows is what a
per-sample gradient relies on, so a model that mixes the samples of a batch is found here and refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradkernels.check.true_gradients import TrueGradients
from gradkernels.problems.module.black_box import BlackBox
from gradkernels.problems.module.conversion import dense
from gradkernels.problems.module.input_writes import recording_writes
from gradkernels.problems.module.output_axes import observe_output, output_axes_of
from gradkernels.problems.module.random_state import rng_devices, rng_state
from gradkernels.problems.module.split_output import SplitOutput
from gradkernels.problems.module.structure import as_dtype, swapped_parameters, with_copied_tensors
from gradkernels.problems.problem import Floats
from gradkernels.tree import Tree, count, each, take, with_constants

FLOAT32_SLACK = 16.0
FLOAT32_TOLERANCE = 1e-4
MIXING_TOLERANCES = {
    "float64": 1e-6,
    "float32": 1e-3,
    "own": 0.05,
}  # relative; also where a layer computes in float32 whatever it is given
MOST_FLOAT32_ROWS = 64  # rows whose error in float32 is looked at, those with the smallest norms first
SCALE_FLOOR = float(np.finfo(np.float32).eps)  # of the largest scale
FLOAT64, FLOAT32, OWN_DTYPES = "float64", "float32", "own"
"""What the model holds for a pass: everything in one dtype, or each parameter in its own."""

BFLOAT16_EPS = 2.0**-8
"""Rounding of bfloat16, which a model that cannot be run in another dtype may compute in."""
DRAWS_RANDOM_NUMBERS = (
    "the model draws random numbers (dropout?), which randomness='error' refuses: call model.eval(), or make the "
    "ModuleProblem with randomness='same' (every sample sees the same draw) or 'different' (each its own)"
)
MIXES_SAMPLES = (
    "the gradient of the mean loss of a batch is not the mean of the gradients of its samples: the model or loss_fn "
    "mixes the samples of a batch, or does not have them first (batch_first=True?); no sample has a gradient of its "
    "own there"
)
WRITES_BUFFER = (
    "the model writes to its buffer {name} when it is called, so that what a sample gives depends on those before it; "
    "call model.eval(), or leave the buffer as it is"
)


def module_gradients(problem: BlackBox, theta: Any, x: Tree, y: Tree) -> TrueGradients:
    """Differentiate each sample's loss by a backward pass of its own, and the mean of all losses by one.

    Args:
        problem: A model and its loss.
        theta: Parameters by name, numpy arrays.
        x: Inputs of n samples.
        y: Targets.

    Returns:
        Rows are `(n, p)`, parameters in theta's order, and the gradient `(p,)`.

    Raises:
        ValueError: The model mixes the samples of a batch, draws random numbers where that is an error, writes to its
            buffers, or `loss_fn` is not reduced as the problem says.
    """
    wide, gradient, dtype = _widest(problem, theta, x, y)
    norms = np.linalg.norm(wide, axis=1)
    scale = np.maximum(norms, FLOAT32_SLACK / FLOAT32_TOLERANCE * _off(problem, theta, x, y, wide, norms, dtype))
    scale = np.maximum(scale, SCALE_FLOOR * scale.max(initial=0.0, where=np.isfinite(scale)))
    return TrueGradients(wide, np.broadcast_to(scale[:, None], wide.shape), gradient, scale)


def _widest(problem: BlackBox, theta: Any, x: Tree, y: Tree) -> tuple[Floats, Floats, str]:
    """Compute rows and gradient in the widest dtype that works, and return it: float64 where it can be.

    A model that makes tensors of the default dtype by itself cannot do float64, one with casts to bfloat16 nothing but
    its own dtypes; one that masks by the largest number of a dtype may overflow in another.
    """
    dtypes, found = _dtypes(problem), list[tuple[Floats, Floats, str]]()
    for dtype in dtypes:
        try:
            found.append((*rows_and_gradient(problem, theta, x, y, dtype), dtype))
        except (RuntimeError, TypeError):
            if dtype == dtypes[-1] and not found:
                raise
            continue
        if np.isfinite(found[-1][0]).all():
            return found[-1]
    return found[0]


def _dtypes(problem: BlackBox) -> list[str]:
    own = {str(one.dtype).removeprefix("torch.") for one in problem.model.parameters() if one.is_floating_point()}
    return [FLOAT64, *([FLOAT32] if own != {FLOAT64} else []), *([OWN_DTYPES] if own & {"bfloat16", "float16"} else [])]


def rows_and_gradient(problem: BlackBox, theta: Any, x: Tree, y: Tree, dtype: str) -> tuple[Floats, Floats]:
    """Differentiate the losses of the model in one dtype.

    Args:
        problem: A model and its loss.
        theta: Parameters by name, numpy arrays.
        x: Inputs of n samples.
        y: Targets.
        dtype: Of all tensors, or `own` for each in its own.

    Returns:
        Rows `(n, p)` and the gradient of the mean of all losses `(p,)`, float64.
    """
    with _pass(problem, theta, x, y, dtype) as one:
        observe_output(problem.model, problem.output, one.x)
        rows = one.rows(range(count(y)))
        if one.drawn():
            if problem.randomness == "error":
                raise ValueError(DRAWS_RANDOM_NUMBERS)
            return rows, rows.mean(0)  # a batch draws other numbers for each of its samples
        gradient = one.gradient()
    if gradient is None:
        return rows, rows.mean(0)
    mean, scale = rows.mean(0), np.linalg.norm(rows, axis=1).mean()
    if np.isfinite(scale) and np.linalg.norm(gradient - mean) > MIXING_TOLERANCES[dtype] * scale:
        raise ValueError(MIXES_SAMPLES)
    return rows, gradient


def _off(problem: BlackBox, theta: Any, x: Tree, y: Tree, wide: Floats, norms: Floats, dtype: str) -> Floats:
    """Return how far float32 rows are off, `(n,)`; 0 where that was not looked at."""
    off = np.zeros(len(wide))
    if dtype == OWN_DTYPES:
        return norms * (BFLOAT16_EPS * FLOAT32_SLACK)
    if dtype == FLOAT32:
        return off
    chosen = np.sort(np.argsort(norms)[:MOST_FLOAT32_ROWS])
    try:
        with _pass(problem, theta, x, y, FLOAT32) as one:
            narrow = one.rows(chosen)
    except (RuntimeError, TypeError):  # it computes in float64 whatever it is given
        return off
    with np.errstate(invalid="ignore"):
        off[chosen] = np.nan_to_num(np.linalg.norm(narrow - wide[chosen], axis=1), posinf=0.0)
    return off


@dataclass(frozen=True)
class _Pass:
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
        require_reduction(self.problem, losses, batch)
        return self._backward(losses.mean())

    def drawn(self) -> bool:
        """Tell whether any sample's loss has drawn random numbers."""
        return any(self.draws)

    def _backward(self, loss: Any) -> Floats:
        import torch

        parts = torch.autograd.grad(loss, list(self.theta.values()), allow_unused=True, materialize_grads=True)
        return np.concatenate([dense(part).double().numpy(force=True).ravel() for part in parts])


@contextmanager
def _pass(problem: BlackBox, theta: Any, x: Tree, y: Tree, dtype: str) -> Iterator[_Pass]:
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
            yield _Pass(problem, leaf, x, y, device, [])
    if written:
        raise ValueError(WRITES_BUFFER.format(name=written[0]))


def require_reduction(problem: BlackBox, losses: Any, batch: Any) -> None:
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
    if n > 1 and off[other] <= 1e-6 * size < off[problem.reduction] * n:
        raise ValueError(
            f"reduction={problem.reduction!r}, but loss_fn of a batch of {n} is the {other} of its samples' losses, "
            f"off by the factor n; make the ModuleProblem with reduction={other!r}"
        )
