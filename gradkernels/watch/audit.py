"""Audits of what is seen: one sample goes through the model alone, with the gradient that its output has got.

No loss is needed for that. It shows what sums cannot: rows of two samples that are exchanged, or a wrong norm.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch.utils import _pytree as pytree

from gradkernels.backend import Array
from gradkernels.dispatch.audit import AuditWarning, is_due
from gradkernels.dispatch.history import KernelHistory
from gradkernels.problems.module import differentiable
from gradkernels.problems.module.buffers import kept_buffers, with_copied_buffers
from gradkernels.problems.module.inputs import SharedPlaces
from gradkernels.problems.module.structure import Module
from gradkernels.watch.backward import BackwardPass
from gradkernels.watch.calls_seen import SeenCall
from gradkernels.watch.errors import CannotWatch

WRONG = (
    "{name} of sample {i} is {found:.6g} in the batch's backward pass and {expected:.6g} in its own: please report "
    "this sentence to the authors of gradkernels, with the model's layers and torch {torch}"
)

NOT_THE_SAME = (
    "{name} of sample {i} is {found:.6g} in the batch's backward pass and {expected:.6g} in its own, and the model "
    "gives that sample another gradient at each call, by a counter or by what it keeps of earlier calls: have it "
    "compute the same again, or pass gk.audit('off') to take what is seen as it is"
)

WRITES_BUFFERS = (
    "{name} of sample {i} is {found:.6g} in the batch's backward pass and {expected:.6g} in its own: the model writes "
    "to its buffer {buffer} in its forward pass, and computes with it, so that what a sample gives depends on the "
    "others or on the pass before; call model.eval(), or leave the buffer as it is"
)

OUT_OF_RANGE = (
    "the squares of some samples' norms have left the range of their dtype, and these samples cannot go through the "
    "model alone: their norms are 0 or inf; use float64, or model.eval() where random numbers are drawn"
)


class WatchAudits:
    """Audits of one watch, at backward passes 1, 2, 4, 8, ... or as `gk.audit` says.

    Args:
        model: That is watched.
        shared: Positions and names of arguments that are the same for all samples.
        draw: Draws the sample.
    """

    def __init__(self, model: Module, shared: SharedPlaces, draw: random.Random) -> None:
        self._model, self._shared, self._draw = model, shared, draw
        self._history, self._warned = KernelHistory(), False
        self._written: list[str] | None = None

    def buffers(self) -> dict[str, Array]:
        """Return copies of the buffers that a pass writes to, as it begins: all of them before the first audit."""
        if self._written is None:
            return {} if self._history.calls else kept_buffers(self._model)
        return kept_buffers(self._model, self._written) if self._written else {}

    def audit(self, backward: BackwardPass, values: Mapping[str, Any], factor: float) -> None:
        """Hold what was seen of one sample against its own pass, if it is time and the sample can be taken alone.

        Args:
            backward: That is over.
            values: Of the quantities by name.
            factor: What gradients are multiplied with.

        Raises:
            CannotWatch: They differ.
        """
        self._history.calls += 1
        call = backward.heard[0]
        if not is_due(self._history, False) or not call.can_be_split or len(backward.heard) > 1:
            return
        i = self._draw.randrange(call.n)
        try:
            row = self._row(call, i)
        except Exception as error:  # of the model with one sample, say
            self._warn(f"this watch cannot be audited: {type(error).__name__}: {error}")
            return
        if (found := _wrong(row, factor, values, i, backward.tolerance)) is not None:
            name, seen, expected = found
            says = self._cause(call, i, row, backward.tolerance)
            raise CannotWatch(says.format(name=name, i=i, found=seen, expected=expected))

    def _cause(self, call: SeenCall, i: int, row: Mapping[str, Array], tolerance: float) -> str:
        """Return the sentence for a sample whose own pass gives another gradient, as far as that tells why.

        Args:
            call: That was seen.
            i: Number of the sample.
            row: By its own pass.
            tolerance: How far passes may be from each other, relative to the row's length.
        """
        again = self._row(call, i)
        off = _length({name: one.double() - again[name].double() for name, one in row.items() if name in again})
        if again.keys() != row.keys() or off > tolerance * _length(row):
            return NOT_THE_SAME
        if self._written:
            return WRITES_BUFFERS.replace("{buffer}", self._written[0])
        return WRONG.replace("{torch}", torch.__version__)

    def length(self, backward: BackwardPass, i: int) -> float | None:
        """Return the length of a sample's gradient by a pass of its own; None where there is none to be had.

        Args:
            backward: That is over.
            i: Number of the sample.
        """
        call = backward.heard[0]
        of_sample = [g[i] for g in call.gradients.values() if g.ndim and len(g) == call.n]
        if of_sample and not (all(g.isfinite().all() for g in of_sample) and any(g.any() for g in of_sample)):
            return None  # what has been found is right
        if not call.can_be_split or len(backward.heard) > 1:
            self._warn(OUT_OF_RANGE)
            return None
        return _length(self._row(call, i))

    def _warn(self, says: str) -> None:
        if not self._warned:
            warnings.warn(says, AuditWarning, stacklevel=2)
        self._warned = True

    def _row(self, call: SeenCall, i: int) -> dict[str, Array]:
        """Return the gradient of sample i, as the batch's loss weighs it."""
        theta, (args, kwargs) = call.theta, self._one(call, i)
        copied = with_copied_buffers(self._model, call.buffers)
        around = call.surroundings(), differentiable.parts_of(self._model)
        with around[0], copied as written, around[1], torch.enable_grad():
            leaves = pytree.tree_leaves(self._model(*args, **kwargs))
            outputs = [one for one in leaves if isinstance(one, torch.Tensor)]
            heads = {number: outputs[number] for number in call.gradients if outputs[number].requires_grad}
            ends = [call.gradients[number][i : i + 1] for number in heads]
            parts = torch.autograd.grad([*heads.values()], [*theta.values()], ends, allow_unused=True)
        self._written = written
        return {name: one for name, one in zip(theta, parts, strict=True) if one is not None}

    def _one(self, call: SeenCall, i: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the model's arguments for one sample."""
        args, kwargs = call.arguments

        def part(value: Any) -> Any:
            is_data = isinstance(value, torch.Tensor) and value.ndim
            return value.detach()[i : i + 1] if is_data else value

        def parts(name: Any, value: Any) -> Any:
            return value if name in self._shared else pytree.tree_map(part, value)

        return tuple(parts(*pair) for pair in enumerate(args)), {name: parts(name, one) for name, one in kwargs.items()}


def _length(row: Mapping[str, Array]) -> float:
    lengths = [torch.linalg.vector_norm(one, dtype=torch.float64) for one in row.values()]
    return float(torch.stack(lengths).norm()) if lengths else 0.0


def _wrong(
    row: Mapping[str, Array], factor: float, values: Mapping[str, Any], i: int, tolerance: float
) -> tuple[str, float, float] | None:
    """Return the first value that is not that of a sample's own row: its name, itself and the right one.

    Args:
        row: As the batch's loss weighs it.
        factor: What it is multiplied with to be the sample's own.
        values: Of the quantities by name.
        i: Number of the sample.
        tolerance: How far they may be from these, relative to its length.
    """
    length = _length(row) * abs(factor)
    found: dict[str, tuple[float, float]] = {}
    if isinstance(norms := values.get("norms"), torch.Tensor):
        found["the norm"] = float(norms[i]), length
    if (gram := values.get("gram")) is not None:
        found["the root of gram's diagonal"] = float(gram[i, i].double().clamp(min=0).sqrt()), length
    if (rows := values.get("per_sample")) is not None:
        off = _length({name: rows[name][i].double() - one.double() * factor for name, one in row.items()})
        found["the distance of the row from its own"] = off + length, length
    for name, (seen, expected) in found.items():
        if abs(seen - expected) > tolerance * expected + torch.finfo(torch.float32).tiny:
            return name, seen, expected
    return None
