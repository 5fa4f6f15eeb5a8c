"""Where the samples are in a tensor: along one of its axes, alone or merged with another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from gradkernels.backend import Array


@dataclass(frozen=True)
class Axis:
    """The axis that the samples lie along.

    Attributes:
        dim: Its position.
        inner: Entries per sample, more than one where another axis was merged into it.
        slowest: Whether samples vary slowest in a merged axis, as in `x.flatten(0, 1)` of `(n, t, d)`.
    """

    dim: int
    inner: int = 1
    slowest: bool = True

    def split(self, tensor: Array, n: int) -> tuple[Array, int]:
        """Return a view with an axis of the n samples alone, and its position; without that axis it is one sample's."""
        if self.inner == 1:
            return tensor, self.dim
        sizes = (n, self.inner) if self.slowest else (self.inner, n)
        return tensor.unflatten(self.dim, sizes), self.dim if self.slowest else self.dim + 1

    def first(self, tensor: Array, n: int) -> Array:
        """Return a view with the samples first: `(n, ...)`, or `(n, inner, ...)` where the merged axis came first."""
        apart, dim = self.split(tensor, n)
        return apart if dim == 0 else apart.movedim(dim, 0)

    def one(self, tensor: Array) -> Array:
        """Return a tensor of one sample, from which `split` has taken the axis away, as a batch of one."""
        return tensor.unsqueeze(self.dim) if self.inner == 1 else tensor

    def moved(self, dim: int) -> Axis:
        """Return the axis at another position."""
        return self if dim == self.dim else Axis(dim, self.inner, self.slowest)

    def fits(self, shape: Sequence[int], n: int) -> bool:
        """Return whether a tensor of that shape has n samples along it."""
        return 0 <= self.dim < len(shape) and shape[self.dim] == n * self.inner

    def numbers(self, shape: Sequence[int], n: int, device: torch.device) -> Array:
        """Return a tensor, without memory of its own, whose entries are the numbers of their samples.

        Args:
            shape: Of the tensor.
            n: Number of samples.
            device: Of the tensor.
        """
        known = torch.arange(n, dtype=torch.int32, device=device)
        along = known.repeat_interleave(self.inner) if self.slowest else known.repeat(self.inner)
        return along.view(-1, *[1] * (len(shape) - self.dim - 1)).expand(*shape)


def axis_after_reshape(axis: Axis, old: Sequence[int], new: Sequence[int], n: int) -> Axis | None:
    """Return the samples' axis after a reshape, by arithmetic; None where no axis holds them, or one between others.

    In a row-major tensor the entry at flat position f belongs to sample (f // step) % n.

    Args:
        axis: Before.
        old: Shape before.
        new: Shape after.
        n: Number of samples.
    """
    step = math.prod(old[axis.dim + 1 :]) * (axis.inner if axis.slowest else 1)
    behind = math.prod(new)
    for dim, size in enumerate(new):
        behind //= max(size, 1)
        if behind <= step and step * n <= behind * size:
            fast, rest = divmod(step, behind)
            slow, left = divmod(size, fast * n)
            if rest or left or (fast > 1 and slow > 1):
                return None
            return Axis(dim, fast * slow, slow == 1)
    return None
