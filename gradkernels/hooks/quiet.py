"""Functions that give no tensor that anything is computed with: nothing is followed through them."""

from __future__ import annotations

from typing import Any

_QUIET = frozenset(
    ("shape", "dtype", "device", "ndim", "layout", "requires_grad", "is_leaf", "grad_fn", "is_cuda", "is_cpu",
     "is_meta", "is_sparse", "is_quantized", "is_nested", "names", "grad", "size", "dim", "numel", "nelement", "stride",
     "storage_offset", "is_contiguous", "is_floating_point", "is_complex", "is_inference", "data_ptr", "element_size",
     "itemsize", "nbytes", "get_device", "untyped_storage", "is_pinned", "is_same_size", "item", "tolist", "__len__",
     "__bool__", "__int__", "__float__", "__index__", "__hash__", "__repr__", "retain_grad", "register_hook",
     "_version", "_is_view")
)  # fmt: skip
"""What gives no tensor that anything is computed with."""


def quiet(func: Any) -> bool:
    """Whether a function is one of them."""
    name = getattr(func, "__name__", "")
    if name == "__get__":  # of an attribute, such as x.shape
        name = getattr(func.__self__, "__name__", "")
    return name in _QUIET
