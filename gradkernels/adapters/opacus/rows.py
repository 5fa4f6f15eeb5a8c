"""Per-sample gradients that are not formed until somebody asks for more than norms and weighted sums of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils import _pytree as pytree

from gradkernels.adapters.opacus.kept import ArrivedGradients
from gradkernels.backend import Array

RowsPart = tuple[ArrivedGradients, str]
"""A backward pass, and the name of a parameter."""


class UnformedRows(torch.Tensor):
    """The rows of one parameter, `(n, *shape)`, from one or several backward passes.

    A tensor as any other, to whoever looks at it. Opacus' optimizers take norms over all axes but the first one, and
    `einsum("i,i...", weights, rows)`: these are computed without the rows. Everything else forms them, and is done with
    them from then on.

    Args:
        parts: Of the backward passes.
        whole: Those that it is a flat view of, `(n, size)`.
    """

    _parts: Sequence[RowsPart]
    _whole: UnformedRows | None
    _formed: Array | None
    _n: int
    _size: int
    _dtype: torch.dtype
    _device: torch.device

    @staticmethod
    def __new__(cls, parts: Sequence[RowsPart], whole: UnformedRows | None = None) -> UnformedRows:
        """Make a tensor that has no memory of its own."""
        parameter, n = parts[0][0].theta[parts[0][1]], sum(kept.n for kept, _ in parts)
        shape = (n, *parameter.shape) if whole is None else (n, parameter.numel())
        made = torch.Tensor._make_wrapper_subclass(cls, shape, dtype=parameter.dtype, device=parameter.device)
        made._parts, made._whole, made._formed = parts, whole, None
        made._n, made._size, made._dtype, made._device = n, parameter.numel(), parameter.dtype, parameter.device
        return made

    @property
    def is_formed(self) -> bool:
        """Whether there are rows."""
        return self._formed is not None if self._whole is None else self._whole.is_formed

    @property
    def is_view(self) -> bool:
        """Whether it is a flat view of others."""
        return self._whole is not None

    def formed(self) -> Array:
        """Return the rows."""
        if self._whole is not None:
            return self._whole.formed().view(self.shape)
        if self._formed is None:
            rows = [kept.rows(name) for kept, name in self._parts]
            self._formed = torch.cat(rows) if len(rows) > 1 else rows[0]
        return self._formed

    def norms(self) -> Array:
        """Return their norms `(n,)`, without them."""
        norms = [kept.norms(name) for kept, name in self._parts]
        return torch.cat(norms) if len(norms) > 1 else norms[0]

    def weighted_sum(self, weights: Array) -> Array:
        """Return their sum, each times its weight `(n,)`, without them."""
        if len(self._parts) == 1:
            ((kept, name),) = self._parts
            return kept.weighted_sum(name, weights)
        shares = weights.split([kept.n for kept, _ in self._parts])
        sums = [kept.weighted_sum(name, one) for (kept, name), one in zip(self._parts, shares, strict=True)]
        return torch.stack(sums).sum(0)

    def flattened(self) -> UnformedRows:
        """Return a view `(n, size)`."""
        return UnformedRows(self._parts, self if self._whole is None else self._whole)

    def __len__(self) -> int:
        """Return the number of samples."""
        return self._n

    def reshape(self, *shape: Any, **options: Any) -> Any:
        """Return `rows.reshape(n, -1)` without the rows, any other shape with them."""
        return self.flattened() if not options and self._is_flat(shape) else super().reshape(*shape, **options)

    def view(self, *shape: Any, **options: Any) -> Any:
        """Return `rows.view(n, -1)` without the rows, any other view with them."""
        return self.flattened() if not options and self._is_flat(shape) else super().view(*shape, **options)

    def _is_flat(self, shape: Any) -> bool:
        """Return whether a shape is `(n, -1)` or `(n, size)`, of rows that are not formed."""
        sizes = tuple(shape[0]) if len(shape) == 1 and isinstance(shape[0], Sequence) else shape
        return len(sizes) == 2 and sizes[0] == self._n and sizes[1] in (-1, self._size) and not self.is_formed

    def norm(self, p: Any = "fro", dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Any:
        """Return `rows.norm(2, dim=...)` over all axes but the first one without the rows, any other norm with them.

        Args:
            p: Kind of the norm.
            dim: Axes.
            keepdim: Whether they stay, of length 1.
            dtype: To compute in.
        """
        if not keepdim and dtype is None and p in (2, "fro") and dim is not None and not self.is_formed:
            axes, ndim = (dim,) if isinstance(dim, int) else dim, self.ndim
            if sorted(one % ndim for one in axes) == [*range(1, ndim)]:
                return self.norms()
        return super().norm(p, dim, keepdim, dtype)

    def to(self, *wanted: Any, **others: Any) -> Any:
        """Return the rows as they are where they are of that dtype or on that device already."""
        if len(wanted) == 1 and not others and wanted[0] in (self._dtype, self._device) and not self.is_formed:
            return self
        return super().to(*wanted, **others)

    @classmethod
    def joined(cls, several: Sequence[UnformedRows]) -> UnformedRows:
        """Return several along the samples' axis."""
        return cls([part for one in several for part in one._parts])

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Compute without the rows what needs none, and everything else with them."""
        kwargs = kwargs or {}
        if func in NEED_NO_ROWS:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **kwargs)
        answer = WITHOUT_ROWS[func](*args, **kwargs) if func in WITHOUT_ROWS else NotImplemented
        if answer is not NotImplemented:
            return answer
        return _with_rows(func, args, kwargs)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        """Compute with the rows what no function of torch's was asked for."""
        return _with_rows(func, args, kwargs or {})


def _with_rows(func: Any, args: Any, kwargs: Any) -> Any:
    args, kwargs = pytree.tree_map_only(UnformedRows, UnformedRows.formed, (args, kwargs))
    return func(*args, **kwargs)


def _is_unformed(value: Any) -> bool:
    return isinstance(value, UnformedRows) and not value.is_formed


def _is_whole(value: Any) -> bool:
    return _is_unformed(value) and not value.is_view


def _einsum(equation: Any, *operands: Any) -> Any:
    """Compute `einsum("i,i...", weights, rows)`."""
    if equation != "i,i..." or len(operands) != 2 or _is_unformed(operands[0]) or not _is_whole(operands[1]):
        return NotImplemented
    weights, rows = operands
    return rows.weighted_sum(weights).view(rows.shape[1:])


def _cat(tensors: Any, dim: int = 0, **others: Any) -> Any:
    """Compute `cat` along the samples' axis."""
    if dim != 0 or others or not all(map(_is_whole, tensors)) or len({one.shape[1:] for one in tensors}) > 1:
        return NotImplemented
    return UnformedRows.joined(tensors)


WITHOUT_ROWS: dict[Any, Callable[..., Any]] = {
    torch.einsum: _einsum,
    torch.functional.einsum: _einsum,
    torch.cat: _cat,
}
"""What Opacus' optimizers do with rows besides calling their methods, by function."""

_PROPERTIES = ("shape", "dtype", "device", "ndim", "requires_grad", "is_leaf", "layout", "grad_fn")
NEED_NO_ROWS = {
    *(getattr(torch.Tensor, name).__get__ for name in _PROPERTIES),
    *(getattr(torch.Tensor, name) for name in ("__len__", "size", "dim", "numel", "nelement", "element_size")),
}
"""What can be said of rows that are not formed."""
