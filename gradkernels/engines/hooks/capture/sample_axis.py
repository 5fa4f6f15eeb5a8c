"""Where the samples are in a tensor: along one of its axes, alone or merged with another, in their order or not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch

from gradkernels.backend import Array


@dataclass(frozen=True, eq=False)
class SamplePermutation:
    """Another order of the samples than the batch's, and where sequences of theirs are packed.

    Attributes:
        order: Which sample comes first, second and so on, `(n,)`.
        lengths: Of the sequences, in that order, the longest first, where they are packed along one axis: the first
            step of all, then the second step of those that have one (`torch.nn.utils.rnn`); else nothing.
    """

    order: Array
    lengths: tuple[int, ...] = ()

    def __eq__(self, other: object) -> bool:
        """Tell whether entries are in the same places."""
        if not isinstance(other, SamplePermutation) or self.lengths != other.lengths:
            return False
        return self.order is other.order or torch.equal(self.order, other.order)

    def __hash__(self) -> int:
        return hash(self.lengths)

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """How many sequences have each step."""
        return tuple(sum(length > step for length in self.lengths) for step in range(max(self.lengths, default=0)))

    def unpacked(self, tensor: Array) -> Array:
        """Return packed sequences as `(n, t, ...)` in this order, zeros after their ends."""
        padded, _ = torch._pad_packed_sequence(tensor, torch.tensor(self.sizes), True, 0.0, len(self.sizes))
        return padded

    def undone(self, tensor: Array, dim: int) -> Array:
        """Return a tensor with the samples, along axis `dim`, in the batch's order."""
        return tensor.index_select(dim, self.order.argsort())


@dataclass(frozen=True)
class Axis:
    """The axis that the samples lie along.

    Attributes:
        dim: Its position.
        inner: Entries per sample, more than one where another axis was merged into it.
        slowest: Whether samples vary slowest in a merged axis, as in `x.flatten(0, 1)` of `(n, t, d)`.
        order: The order that they are in; None where it is the batch's.
    """

    dim: int
    inner: int = 1
    slowest: bool = True
    order: SamplePermutation | None = None

    @property
    def packed(self) -> bool:
        """Whether sequences are packed along it."""
        return self.order is not None and bool(self.order.lengths)

    @property
    def merged(self) -> bool:
        """Whether there may be several entries for each sample: without the axis a sample has another one instead."""
        return self.inner > 1 or self.packed

    def split(self, tensor: Array, n: int) -> tuple[Array, int]:
        """Return a view with an axis of the n samples alone, and its position; without that axis it is one sample's."""
        if self.order is not None:
            apart, dim = (self.order.unpacked(tensor), 0) if self.packed else replace(self, order=None).split(tensor, n)
            return self.order.undone(apart, dim), dim
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
        return tensor if self.merged else tensor.unsqueeze(self.dim)

    def moved(self, dim: int) -> Axis:
        """Return the axis at another position."""
        return self if dim == self.dim else Axis(dim, self.inner, self.slowest, self.order)

    def fits(self, shape: Sequence[int], n: int) -> bool:
        """Return whether a tensor of that shape has n samples along it."""
        if self.packed:
            assert self.order is not None
            return self.dim == 0 and len(shape) > 0 and shape[0] == sum(self.order.lengths)
        return 0 <= self.dim < len(shape) and shape[self.dim] == n * self.inner

    def numbers(self, shape: Sequence[int], n: int, device: torch.device) -> Array:
        """Return a tensor, without memory of its own, whose entries are the numbers of their samples.

        Args:
            shape: Of the tensor.
            n: Number of samples.
            device: Of the tensor.
        """
        known = torch.arange(n, dtype=torch.int32, device=device) if self.order is None else self.order.order.int()
        if self.packed:
            assert self.order is not None
            along = torch.cat([known[:size] for size in self.order.sizes])
        else:
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
    if axis.packed:
        return axis if len(new) and new[0] == old[0] else None
    step = math.prod(old[axis.dim + 1 :]) * (axis.inner if axis.slowest else 1)
    behind = math.prod(new)
    for dim, size in enumerate(new):
        behind //= max(size, 1)
        if behind <= step and step * n <= behind * size:
            fast, rest = divmod(step, behind)
            slow, left = divmod(size, fast * n)
            if rest or left or (fast > 1 and slow > 1):
                return None
            return Axis(dim, fast * slow, slow == 1, axis.order)
    return None
