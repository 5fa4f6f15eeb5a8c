"""Memory that a caller gives for a result (`out=`): what can be written to, and what would be overwritten by it."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from gradkernels.backend import Array, Backend, backend_of
from gradkernels.memory.overlap import overlapping, overlaps_itself
from gradkernels.quantities.shared.outputs import output_axes
from gradkernels.quantity import Quantity
from gradkernels.tree import Tree, constants, count, leaves
from gradkernels.validate import dtype_of


def validate_out(quantity: Quantity, theta: Tree, x: Tree, y: Tree, out: Any) -> None:
    """Refuse memory that a result cannot be written to.

    Args:
        quantity: What the result is.
        theta: Parameters.
        x: Features or inputs, samples first.
        y: Targets, samples first.
        out: The memory: an array, or a dict of them.

    Raises:
        TypeError: It is not an array, or dict of arrays, of the inputs' library, or of one whose arrays cannot be
            written to.
        ValueError: Wrong names, shape or dtype, read-only, or shared with an input, with another part of it or within
            itself.
    """
    given = [*theta.values()] if isinstance(theta, dict) else leaves(theta)
    library = backend_of(given[0])
    if library is not None and library.arrays.read_only:
        raise TypeError(f"{library.arrays.read_only}; leave out= out")
    n, axes = count(y), output_axes(quantity, y)
    if isinstance(theta, dict) and quantity.per_parameter:
        _require_names(theta, out)
        parts, likes = [out[name] for name in theta], given
    else:
        parts, likes = [out], [max(given, key=_itemsize)]
    tensor = getattr(sys.modules.get("torch"), "Tensor", ())
    for place, (part, like) in enumerate(zip(parts, likes, strict=True)):
        shape = quantity.shape(n, like.shape, **axes)
        if not _is_plain(part, shape, like, tensor):
            _require_writable(_name(out, theta, place), part, shape, like, library)
    others = [*given, *leaves((x, y))]
    if constant := constants((x, y)):
        others += [value for value in constant if hasattr(value, "data_ptr")]
    _require_own(out, theta, parts, others)


def _is_plain(part: Any, shape: tuple[int, ...], like: Any, tensor: Any) -> bool:
    """Return whether a part is an array that nothing is wrong with: told in a microsecond, since a model has many."""
    if type(part) is np.ndarray is type(like):
        flags = part.flags
        return part.dtype == like.dtype and part.shape == shape and flags.writeable and flags.c_contiguous
    return (
        isinstance(part, tensor)
        and part.dtype is like.dtype
        and part.shape == shape
        and part.device == like.device
        and not part.requires_grad
        and (part.is_contiguous() or (like.is_contiguous() and _are_rows(part.stride(), like)))
    )


def _are_rows(strides: tuple[int, ...], like: Any) -> bool:
    """Return whether rows of these strides, each of the shape of `like`, are apart, each in one stretch."""
    return strides[1:] == like.stride() and strides[0] >= like.numel()


def _require_own(out: Any, theta: Tree, parts: list[Any], others: list[Any]) -> None:
    """Raise where memory for the result shares an entry with an input, or with other memory for it."""
    found = overlapping(parts, others)
    if found is None:
        return
    one, other = found
    name = _name(out, theta, one)
    if other is None:
        raise ValueError(f"{name} shares memory with an input, which must not be modified; pass other memory")
    raise ValueError(f"{name} and {_name(out, theta, other)} share memory; pass memory of its own for each")


def _name(out: Any, theta: Tree, place: int) -> str:
    """Return what a message calls a part: `out`, or `out['weight']`."""
    return f"out[{[*theta][place]!r}]" if isinstance(out, dict) else "out"


def _itemsize(array: Array) -> int:
    return int(array.dtype.itemsize)


def _require_names(theta: dict[str, Any], out: Any) -> None:
    if not isinstance(out, dict):
        raise TypeError(f"out is a {type(out).__name__}; it must be a dict of buffers with theta's names")
    if theta.keys() != out.keys():
        wrong = [*(f"lacks {name!r}" for name in theta.keys() - out.keys()),
                 *(f"has {name!r} besides" for name in out.keys() - theta.keys())]  # fmt: skip
        raise ValueError(f"out {' and '.join(sorted(wrong)[:4])}; its names must be those of theta")


def _require_writable(name: str, part: Any, shape: tuple[int, ...], like: Array, library: Backend | None) -> None:
    if library is None or backend_of(part) is not library:
        given = f"{name} is a {type(part).__module__}.{type(part).__name__}"
        hint = "; pass numpy.asarray(out), which is the same memory" if isinstance(part, np.ndarray) else ""
        raise TypeError(f"{given}; it must be an array of the same library as theta{hint}")
    if tuple(part.shape) != shape or part.dtype != like.dtype or part.device != like.device:
        given = f"{name} is {tuple(part.shape)} {dtype_of(part)} on {part.device}"
        raise ValueError(f"{given}; it must be {tuple(shape)} {dtype_of(like)} on {like.device}")
    if isinstance(part, np.ndarray) and not part.flags.writeable:
        raise ValueError(f"{name} is read-only; pass writable memory")
    if getattr(part, "requires_grad", False):
        raise ValueError(f"{name} requires gradients, so it cannot be written to; pass {name}.detach()")
    if overlaps_itself(part):
        raise ValueError(f"several entries of {name} share memory, as after expand; pass memory of its own for each")
