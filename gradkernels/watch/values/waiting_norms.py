"""Squared norms of uses whose data and gradients are all there, by a layout that one pass has told for all like it.

Each layer of a small model takes less time than what has to be looked at to begin with it: so which uses are of one
kind, which have one input, and where results go, is laid out once, for all passes of one graph.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch

from gradkernels.backend import Array
from gradkernels.engines.hooks.rules.arithmetic import SharedLookup
from gradkernels.engines.hooks.rules.kept_data import KeptData
from gradkernels.engines.hooks.rules.linear.linear import Linear
from gradkernels.engines.hooks.rules.lookup.embedding import EmbeddingTable
from gradkernels.engines.hooks.rules.normalization import FeatureNormalization
from gradkernels.watch.values import squared_norms
from gradkernels.watch.values.step_products import has_few_steps
from gradkernels.watch.values.waiting_maps import MapsOfSteps, Uses, WaitingUse, is_of_few_words

WIDE_DTYPES = (torch.float32, torch.float64)
"""In which squares are taken as they are."""


class _Alike(Protocol):
    """Uses of one kind."""

    def squares(self, kept: Sequence[KeptData], gradients: Sequence[Array], use: Uses) -> Array: ...


class WaitingNorms:
    """Squares the rows of those uses of a pass that may wait for each other.

    Args:
        planned: All uses.
        shared: Names of parameters that have several.

    Attributes:
        members: Numbers of those that may wait; all that is asked by number is of these, in their order.
        names: Of each one's parameters.
    """

    def __init__(self, planned: Sequence[WaitingUse], shared: frozenset[str]) -> None:
        self.members, left = list[int](), squared_norms.KEPT_GRADIENT_BYTES
        for number, one in enumerate(planned):
            nbytes = one.shape.numel() * one.itemsize
            if _kind(one, shared) is not None and nbytes <= left:
                self.members.append(number)
                left -= nbytes
        mine = [planned[number] for number in self.members]
        self._dtypes = [one.dtype for one in mine]
        self.names = [[target.names[0] for target in one.use.targets.values()] for one in mine]
        alike = dict[Any, list[int]]()
        for at, one in enumerate(mine):
            alike.setdefault(_kind(one, shared), []).append(at)
        self._alike: list[_Alike] = [_MAKERS[kind[0]](mine, at) for kind, at in alike.items()]

    def squares(self, kept: Sequence[KeptData], gradients: Sequence[Array | None], use: Uses) -> Array | None:
        """Return the sum of the squared norms of all of them, `(n,)`; None where something is not as it was.

        Args:
            kept: What the pass has kept for each.
            gradients: Of each one's output, None where none has come.
            use: Makes a use.
        """
        there = [one for one in gradients if one is not None]
        if not there or [one.dtype for one in there] != self._dtypes:
            return None
        found = [one.squares(kept, there, use) for one in self._alike]
        total = found[0]
        for one in found[1:]:
            total = total + one
        return total


def _kind(one: WaitingUse, shared: frozenset[str]) -> tuple[Any, ...] | None:
    """Return what uses have in common that are squared together; None for one that is squared as it arrives."""
    use, shape, dtype, targets = one.use, one.shape, one.dtype, [*one.use.targets.values()]
    if any(not target.direct or target.names[0] in shared for target in targets) or dtype not in WIDE_DTYPES:
        return None
    if type(use) in (EmbeddingTable, SharedLookup):
        return (torch.bmm, dtype, shape[1]) if is_of_few_words(one) else None
    if any(other.dtype is not dtype for other in (one.kept[0], *(target.tensor for target in targets))):
        return None
    if type(use) is FeatureNormalization:
        return (
            (FeatureNormalization, use.kind) if shape.numel() * dtype.itemsize <= squared_norms.JOINED_BYTES else None
        )
    if type(use) is not Linear or "weight" not in use.targets or len(shape) not in (2, 3):
        return None
    if len(shape) == 2:
        return Linear, dtype
    n, steps, o = shape
    return (torch.bmm, dtype, steps) if has_few_steps(n, steps, o, one.kept[0].shape[2], dtype.itemsize) else None


class _SingleSteps:
    """Linear maps of one step a sample: |g|^2 (|a|^2 + 1)."""

    def __init__(self, planned: Sequence[WaitingUse], members: list[int]) -> None:
        mine = [planned[one] for one in members]
        self._members, like = members, mine[0].kept[0]
        self._more = like.new_tensor([len(one.use.targets) > 1 for one in mine])[:, None]

    def squares(self, kept: Sequence[KeptData], gradients: Sequence[Array], use: Uses) -> Array:
        """Return the sum of their squared norms.

        Args:
            kept: Inputs of all members.
            gradients: Of their outputs.
            use: Makes one of them.
        """
        lengths = gradients[self._members[0]].new_empty((2, len(self._members), len(gradients[self._members[0]])))
        for at, of_g, of_a in zip(self._members, *(one.unbind() for one in lengths), strict=True):
            torch.linalg.vector_norm(gradients[at], dim=1, out=of_g)
            torch.linalg.vector_norm(kept[at][0], dim=1, out=of_a)
        of_g, of_a = lengths.square_()
        return of_a.add_(self._more).mul_(of_g).sum(0)


class _Normalizations:
    """Normalizations of features: rows are sums over steps of g times the normalized input, and of g."""

    def __init__(self, planned: Sequence[WaitingUse], members: list[int]) -> None:
        first = planned[members[0]]
        self._members, self._places = members, [*first.use.targets]
        n, features = first.shape[0], next(iter(first.use.targets.values())).tensor.numel()
        self._shape = n, max(1, first.shape.numel() // max(1, n * features)), features

    def squares(self, kept: Sequence[KeptData], gradients: Sequence[Array], use: Uses) -> Array:
        """Return the sum of their squared norms.

        Args:
            kept: Inputs, means and scales of all members.
            gradients: Of their outputs.
            use: Makes one of them.
        """
        n, steps, features = self._shape
        scratch = kept[self._members[0]][0].new_empty(self._shape)
        rows = scratch.new_empty((len(self._places), len(self._members), n, features))
        for layer, at in enumerate(self._members):
            g = gradients[at].reshape(self._shape)
            for place, out in zip(self._places, rows[:, layer].unbind(), strict=True):
                if place == "weight":
                    a, mean, scale = kept[at]
                    torch.sub(a.reshape(self._shape), mean.reshape(n, steps, 1), out=scratch)
                    torch.sum(scratch.mul_(scale.reshape(n, steps, 1)).mul_(g), 1, out=out)
                else:
                    torch.sum(g, 1, out=out)
        return torch.linalg.vector_norm(rows, dim=3).square_().sum((0, 1))


_MAKERS: dict[Any, Callable[[Sequence[WaitingUse], list[int]], _Alike]] = {
    torch.bmm: MapsOfSteps, Linear: _SingleSteps, FeatureNormalization: _Normalizations,
}  # fmt: skip
