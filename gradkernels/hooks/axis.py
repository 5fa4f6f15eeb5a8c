"""Where the samples are in a tensor, learned from its sizes for two and for three samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from gradkernels.backend import Array

FEW, MORE = 2, 3
"""The two numbers of samples that a model is probed with."""


@dataclass(frozen=True)
class Axis:
    """The axis that the samples lie along.

    Attributes:
        dim: Its position.
        inner: Entries per sample, more than one where another axis was merged into it.
        slowest: Whether samples vary slowest in a merged axis, as in `x.flatten(0, 1)` of `(n, t, d)`.
        sure: Whether that is known; it is not where the entries are the same in both orders.
    """

    dim: int
    inner: int = 1
    slowest: bool = True
    sure: bool = field(default=True, compare=False)

    def split(self, tensor: Array, n: int) -> tuple[Array, int]:
        """A view with an axis of the n samples alone, and its position; without it, it is what one sample has."""
        if self.inner == 1:
            return tensor, self.dim
        sizes = (n, self.inner) if self.slowest else (self.inner, n)
        return tensor.unflatten(self.dim, sizes), self.dim if self.slowest else self.dim + 1

    def first(self, tensor: Array, n: int) -> Array:
        """A view with the samples first: `(n, ...)`, or `(n, inner, ...)` where the merged axis came first."""
        apart, dim = self.split(tensor, n)
        return apart if dim == 0 else apart.movedim(dim, 0)

    def one(self, tensor: Array) -> Array:
        """A tensor of one sample, from which `split` has taken the axis away, as a batch of one."""
        return tensor.unsqueeze(self.dim) if self.inner == 1 else tensor


Order = Callable[[int, int], bool | None]
"""`order(dim, inner)`: what is known of `slowest` before a tensor's entries are looked at."""


def axis_of(few: Array, more: Array, order: Order | None = None) -> Axis | None:
    """The samples' axis of a tensor, from what it is for FEW and for MORE samples; None if it has none.

    Raises:
        ValueError: More than one axis, or one that is not proportional to the number of samples.
    """
    if few.shape == more.shape:
        return None
    if few.ndim != more.ndim:
        raise ValueError(f"a tensor has {few.ndim} axes for {FEW} samples and {more.ndim} for {MORE}")
    dims = [dim for dim in range(few.ndim) if few.shape[dim] != more.shape[dim]]
    dim, small, large = dims[0], few.shape[dims[0]], more.shape[dims[0]]
    if len(dims) > 1 or small * MORE != large * FEW:
        raise ValueError(f"a tensor is {tuple(few.shape)} for {FEW} samples and {tuple(more.shape)} for {MORE}")
    inner = small // FEW
    if inner == 1:
        return Axis(dim)
    slowest = order(dim, inner) if order else None
    slowest = _slowest(few, more, dim, inner) if slowest is None else slowest
    return Axis(dim, inner, slowest is not False, slowest is not None)


def _slowest(few: Array, more: Array, dim: int, inner: int) -> bool | None:
    """Whether the first two samples of three look like the two, in that order of a merged axis; None for both."""
    apart = more.unflatten(dim, (inner, MORE)).narrow(dim + 1, 0, FEW).flatten(dim, dim + 1)
    slow, fast = _alike(few, more.narrow(dim, 0, FEW * inner)), _alike(few, apart)
    return None if slow == fast else slow


def _alike(one: Array, other: Array) -> bool:
    return torch.allclose(one, other, equal_nan=True) if one.is_floating_point() else torch.equal(one, other)
