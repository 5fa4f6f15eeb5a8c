"""Whether the loss of a batch is the mean, or the sum, of its samples' own losses, as a per-sample gradient is defined.

Calls 1, 2, 4, 8, ... of a kind of batch are looked at: one backward pass of the batch's loss, and one of the samples'
own, each no further than the model's output. Where both agree nothing is said. Where each sample's gradient is its own
times a factor (token means over a padded batch, class weights, ignored targets, roots of means) one warning says by how
much; where it is another one, samples are compared with each other, and the loss is refused. A loss that the model
computes itself is compared by its value on a few samples.
"""

from __future__ import annotations

import random
import sys
import warnings
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gradkernels.backend import Array
from gradkernels.problems.apart import Apart
from gradkernels.problems.identity import identity
from gradkernels.problems.losses import ignores
from gradkernels.problems.structure import Module
from gradkernels.tree import Tree, count, each, take

if TYPE_CHECKING:
    from gradkernels.problems.module import ModuleProblem

MIXING = ("error", "own")
FEW = 4
"""Samples whose losses are compared by value."""

MOST_LOSSES = 64

OWN = (
    ". gk.gradient is the mean over samples of the gradients of their own losses, each that of a batch of one; if that "
    "is meant, pass mixing='own' to the ModuleProblem, which silences this"
)


class MixingWarning(UserWarning):
    """The loss of a batch weighs its samples otherwise than the mean of their own losses does."""


@dataclass
class Looks:
    """When a loss is looked at.

    Attributes:
        calls: Of each kind of batch, so far.
        warned: Whether its one warning was given.
    """

    calls: dict[Any, int] = field(default_factory=dict)
    warned: bool = False

    def due(self, kind: Any) -> bool:
        """Count a call; whether it is the first, second, fourth, eighth, ... of its kind."""
        calls = self.calls[kind] = self.calls.get(kind, 0) + 1
        return not calls & (calls - 1)

    def again(self, kind: Any) -> None:
        """Have the next call of a kind looked at."""
        self.calls[kind] = 0


_LOOKS: weakref.WeakKeyDictionary[Module, dict[Any, Looks]] = weakref.WeakKeyDictionary()


def looks(problem: ModuleProblem) -> Looks:
    """Those of a problem's model and loss, shared with other problems of these."""
    known = _LOOKS.setdefault(problem.model, {})
    if len(known) >= MOST_LOSSES:
        known.clear()
    code = getattr(problem.loss_fn, "__code__", None)  # what a function has closed over may change with each step
    return known.setdefault((code or identity(problem.loss_fn), problem.reduction), Looks())


def kind_of(x: Tree, y: Tree) -> Any:
    """What two batches have in common that are looked at as one kind."""
    return _kind(x), _kind(y)


def _kind(tree: Tree) -> Any:
    if isinstance(tree, dict):
        return tuple(tree)
    return len(tree) if isinstance(tree, tuple) else getattr(tree, "ndim", None)


def look(problem: ModuleProblem, found: Looks, theta: Any, x: Tree, y: Tree) -> None:
    """Compare the loss of a batch with those of its samples.

    Raises:
        ValueError: It is neither their mean (or sum, as the problem says) nor a weighting of it.
    """
    kind, n = kind_of(x, y), count(y)
    if n < 2:
        found.again(kind)
        return
    if problem.plain and not ignores(problem.loss_fn, y):
        return
    try:
        says = _compared(problem, theta, x, y, random.Random(found.calls[kind]))
    except ValueError:
        found.again(kind)
        raise
    if says and not found.warned:
        found.warned = True
        warnings.warn(says + OWN, MixingWarning, stacklevel=_depth())


def _compared(problem: ModuleProblem, theta: Any, x: Tree, y: Tree, rng: random.Random) -> str:
    """What is to be warned about; nothing where all is well, or nothing is known."""
    import torch

    from gradkernels.problems.weighing import MixesSamples, between, weighed

    with torch.inference_mode(False), warnings.catch_warnings(), _untouched(theta):
        warnings.simplefilter("ignore")
        theta, x, y = each(_ordinary, (theta, x, y))
        try:
            pair = _gradients(problem, _apart(problem, theta, x, y), y)
            values = _values(problem, theta, x, y, rng) if pair is None else None
        except (
            Exception
        ):  # a draw, which is another for a batch; or of the model or the loss: what is computed next will raise it
            return ""
        try:
            return weighed(problem.reduction, *pair) if pair else between(problem.reduction, *values) if values else ""
        except MixesSamples as error:
            raise ValueError(str(error)) from None


def _ordinary(tensor: Array) -> Array:
    return tensor.clone() if tensor.is_inference() else tensor.detach()


@contextmanager
def _untouched(theta: Any) -> Iterator[None]:
    """A context that leaves torch's random numbers as they were."""
    import torch

    device = next(iter(theta.values())).device
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        yield


class _Drawn(Exception):
    """A loss has drawn random numbers, which are others for a batch: it cannot be compared."""


@contextmanager
def _undrawn(device: Any) -> Iterator[None]:
    """A context that raises a `_Drawn` where random numbers were drawn in it."""
    import torch

    def state() -> bytes:
        on_device = [torch.cuda.get_rng_state(device)] if device.type == "cuda" else []
        return b"".join(one.numpy().tobytes() for one in (torch.random.get_rng_state(), *on_device))

    before = state()
    yield
    if state() != before:
        raise _Drawn


def _apart(problem: ModuleProblem, theta: Any, x: Tree, y: Tree) -> Apart:
    """The model's output for the batch, without its graph where it can do without."""
    import torch

    with problem.holding(theta):
        try:
            with torch.no_grad():
                return Apart(problem.output(x), count(y))
        except RuntimeError:  # it differentiates something itself
            with torch.enable_grad():
                return Apart(problem.output(x), count(y))


def _gradients(problem: ModuleProblem, apart: Apart, y: Tree) -> tuple[list[Array], list[Array]] | None:
    """Gradients of the batch's loss, and of the sum of its samples' own, by each output; None where there are none."""
    import torch

    leaf = [one.detach().requires_grad_(one.is_floating_point()) for one in apart.tensors]
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
    return None if batch is None or own is None else (batch, own)


def _values(problem: ModuleProblem, theta: Any, x: Tree, y: Tree, rng: random.Random) -> tuple[Array, Array] | None:
    """The loss of a few samples, and that of each, for a loss that only the model can take single samples for."""
    import torch

    n = count(y)
    rows = torch.tensor(sorted(rng.sample(range(n), min(n, FEW))))
    x, y = each(lambda array: array[rows.to(array.device)], (x, y))
    with torch.no_grad(), _undrawn(next(iter(theta.values())).device):
        with problem.holding(theta):
            batch = problem.batch_loss(problem.output(x), y)
        own = torch.stack([problem.loss(theta, take(x, i), take(y, i)) for i in range(len(rows))])
    return (batch, own) if batch.numel() == 1 and own.isfinite().all() else None


def _depth() -> int:
    """How far up the caller's own code is."""
    depth, frame = 1, sys._getframe(1)
    while frame.f_back is not None and str(frame.f_globals.get("__name__", "")).startswith("gradkernels."):
        depth, frame = depth + 1, frame.f_back
    return depth
