"""Where the samples are in a tensor, learned from its sizes for two and for three samples."""

from __future__ import annotations

from dataclasses import dataclass

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
    """

    dim: int
    inner: int = 1
    slowest: bool = True

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


def axis_of(few: Array, more: Array) -> Axis | None:
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
    return Axis(dim, inner, inner == 1 or _slowest(few, more, dim, inner))


def _slowest(few: Array, more: Array, dim: int, inner: int) -> bool:
    """Whether the first two samples of three look like the two, in that order of a merged axis."""
    import torch

    if torch.equal(few, more.narrow(dim, 0, FEW * inner)):
        return True
    apart = more.unflatten(dim, (inner, MORE)).narrow(dim + 1, 0, FEW)
    return not torch.allclose(few, apart.flatten(dim, dim + 1), equal_nan=True)
