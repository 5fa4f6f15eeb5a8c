"""Whether the loss of a batch is the mean, or the sum, of its samples' own losses, as a per-sample gradient is defined.

Calls 1, 2, 4, 8, ... of a kind of batch are looked at: one backward pass of the batch's loss, and one of the samples'
own, each no further than the model's output. Where each sample's gradient is its own times a factor (token means over a
padded batch, class weights, ignored targets, roots of means) one warning says by how much; where it is another one,
samples are compared with each other, and the loss is refused. A loss that the model computes itself is compared by its
value on a few samples.
"""

from __future__ import annotations

import random
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

from gradkernels.backend import Array
from gradkernels.problems.module.black_box import BlackBox
from gradkernels.problems.module.mixing.check_schedule import CheckSchedule, batch_kind
from gradkernels.problems.module.output_axes import output_axes_of
from gradkernels.problems.module.random_state import preserved_rng, rng_state
from gradkernels.problems.module.sample_losses import has_ignored_targets
from gradkernels.problems.module.split_output import SplitOutput
from gradkernels.tree import Tree, count, each, leaves, take

MIXING = ("error", "own")
MOST_COMPARED = 4
"""Samples whose losses are compared by value."""


OWN_HINT = (
    ". gk.gradient is the mean over samples of the gradients of their own losses, each that of a batch of one; if that "
    "is meant, pass mixing='own' to the ModuleProblem, which silences this"
)


class MixingWarning(UserWarning):
    """The loss of a batch weighs its samples otherwise than the mean of their own losses does."""


def check_mixing(problem: BlackBox, found: CheckSchedule, theta: Any, x: Tree, y: Tree) -> None:
    """Compare the loss of a batch with those of its samples.

    Args:
        problem: A model and its loss.
        found: When this loss is looked at, and whether its warning was given.
        theta: Parameters by name.
        x: Inputs, prepared.
        y: Targets, prepared.

    Raises:
        ValueError: It is neither their mean (or sum, as the problem says) nor a weighting of it.
    """
    kind, n = batch_kind(x, y), count(y)
    if n < 2:
        found.again(kind)
        return
    if problem.has_torch_loss and not has_ignored_targets(problem.loss_fn, y):
        return
    try:
        says = _compared(problem, theta, x, y, random.Random(found.calls[kind]))
    except ValueError:
        found.again(kind)
        raise
    if says and not found.warned:
        found.warned = True
        warnings.warn(says + OWN_HINT, MixingWarning, stacklevel=callers_depth())


def _compared(problem: BlackBox, theta: Any, x: Tree, y: Tree, rng: random.Random) -> str:
    """Say what is to be warned about; nothing where all is well, or nothing is known."""
    import torch

    from gradkernels.problems.module.mixing.compare import MixesSamples, compare_losses

    with torch.inference_mode(False), warnings.catch_warnings(), preserved_rng(theta):
        warnings.simplefilter("ignore")
        theta, x, y = each(_ordinary, (theta, x, y))
        try:
            apart = _apart(problem, theta, x, y)
            says = _by_gradients(problem, apart, y)
            for bytes_ in (4, 8):
                if not says:
                    break
                # What may be rounding, under autocast for instance, is looked at in more digits.
                with suppress(Exception), torch.autocast(leaves(theta)[0].device.type, enabled=False):
                    again = _by_gradients(problem, apart, y, bytes_)
                    says = says if again is None else again
            if says is None:
                values = _values(problem, theta, x, y, rng)
                says = compare_losses(problem.reduction, *values) if values else ""
        except MixesSamples:
            raise
        except Exception:  # a draw, which is another for a batch; or of the model or the loss: the call will raise it
            return ""
    if isinstance(says, ValueError):
        raise says
    return says


def _by_gradients(problem: BlackBox, apart: SplitOutput, y: Tree, digits: int = 1) -> str | ValueError | None:
    """Compare gradients at the model's output; say what is to be warned about or raised, None where there are none."""
    from gradkernels.problems.module.mixing.compare import MixesSamples, compare_output_gradients

    if (pair := _gradients(problem, apart, y, digits)) is None:
        return None
    digits = min(one.element_size() for one in apart.tensors if one.is_floating_point())
    try:
        return compare_output_gradients(problem.reduction, digits, *pair)
    except MixesSamples as error:
        return error


def _wide(digits: int, tensor: Array) -> Array:
    """Convert a tensor of floats to one with at least so many bytes an entry."""
    if not tensor.is_floating_point() or tensor.element_size() >= digits:
        return tensor
    return tensor.double() if digits > 4 else tensor.float()


def _ordinary(tensor: Array) -> Array:
    return tensor.clone() if tensor.is_inference() else tensor.detach()


class _Drawn(Exception):
    """A loss has drawn random numbers, which are others for a batch: it cannot be compared."""


@contextmanager
def _undrawn(device: Any) -> Iterator[None]:
    """Raise a `_Drawn` where random numbers were drawn in the context."""
    before = rng_state(device)
    yield
    if rng_state(device) != before:
        raise _Drawn


def _apart(problem: BlackBox, theta: Any, x: Tree, y: Tree) -> SplitOutput:
    """Compute the model's output for the batch, without its graph where it can do without."""
    import torch

    with problem.with_parameters(theta):
        try:
            with torch.no_grad():
                return _taken(problem, problem.output(x), count(y))
        except RuntimeError:  # it differentiates something itself
            with torch.enable_grad():
                return _taken(problem, problem.output(x), count(y))


def _taken(problem: BlackBox, output: Tree, n: int) -> SplitOutput:
    return SplitOutput(output, output_axes_of(problem.model).have_samples(output, n))


def _gradients(problem: BlackBox, apart: SplitOutput, y: Tree, digits: int) -> tuple[list[Array], list[Array]] | None:
    """Differentiate the batch's loss, and the sum of its samples' own, by each output; None where there are none."""
    import torch

    tensors, y = each(partial(_wide, digits), (tuple(apart.tensors), y))
    leaf = [one.detach().requires_grad_(one.is_floating_point()) for one in tensors]
    by = [one for one in leaf if one.requires_grad]
    if not by:
        return None

    def of(loss: Any) -> list[Array] | None:
        if not isinstance(loss, torch.Tensor) or not loss.requires_grad:
            return None
        return [*torch.autograd.grad(loss.sum(), by, allow_unused=True, materialize_grads=True)]

    def output() -> Any:
        return apart.of_batch([one.clone() for one in leaf])  # which the loss may write to

    with torch.enable_grad(), _undrawn(by[0].device):
        batch = of(problem.batch_loss(output(), y))
        try:
            own = None if batch is None else of(problem.losses(output(), y))
        except Exception:  # it takes a part of the output that is of the whole batch
            return None
    return (batch, own) if batch and own else None


def _values(problem: BlackBox, theta: Any, x: Tree, y: Tree, rng: random.Random) -> tuple[Array, Array] | None:
    """Compute the loss of a few samples, and that of each, where only the model can take single samples."""
    import torch

    n = count(y)
    rows = torch.tensor(sorted(rng.sample(range(n), min(n, MOST_COMPARED))))
    x, y = each(lambda array: array[rows.to(array.device)], (x, y))
    with torch.no_grad(), _undrawn(leaves(theta)[0].device):
        with problem.with_parameters(theta):
            batch = problem.batch_loss(problem.output(x), y)
        own = torch.stack([problem.loss(theta, take(x, i), take(y, i)) for i in range(len(rows))])
    return (batch, own) if batch.numel() == 1 and own.isfinite().all() else None


def callers_depth() -> int:
    """Count how many frames up the caller's own code is."""
    depth, frame = 1, sys._getframe(1)
    while frame.f_back is not None and str(frame.f_globals.get("__name__", "")).startswith("gradkernels."):
        depth, frame = depth + 1, frame.f_back
    return depth
