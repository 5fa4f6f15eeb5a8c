"""Tensors in memory of numpy, which advises the system to use huge pages, and such that autograd can work with."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from gradkernels.memory.results import RESULTS


def from_numpy(array: np.ndarray[Any, Any], device: str) -> Any:
    """Make a torch tensor of a numpy array; on the CPU it shares the memory."""
    import torch

    # torch has neither negative strides nor fractions of an entry, which a column of a structured array can have.
    if any(stride < 0 or stride % array.itemsize for stride in array.strides):
        array = np.ascontiguousarray(array)
    # torch warns about memory that is read-only for numpy; kernels never write to their inputs (the
    # checker proves it), so it gets a view that does not say so.
    return torch.from_numpy(array if array.flags.writeable else np.asarray(_Writable(array))).to(device)


class _Writable:
    """The memory of a read-only array, described without the read-only flag."""

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        interface = array.__array_interface__
        self.owner = array
        self.__array_interface__ = {**interface, "data": (interface["data"][0], False)}


def empty_torch(shape: tuple[int, ...], like: Any) -> Any:
    """Allocate an uninitialised tensor of `shape` with the dtype and device of `like`.

    On the CPU it is in memory that an earlier result has left, if there is such memory.
    """
    import torch

    if not torch.is_inference_mode_enabled():
        return _empty(torch, shape, like)
    with torch.inference_mode(False):  # or it could be written to nowhere else
        return _empty(torch, shape, like)


def _empty(torch: Any, shape: tuple[int, ...], like: Any) -> Any:
    if like.device.type != "cpu":
        return torch.empty(shape, dtype=like.dtype, device=like.device)
    dtype = _dtype_of_numpy(like.dtype)
    if dtype is not None:
        return torch.from_numpy(RESULTS.empty(shape, dtype))
    # bfloat16, say, which numpy does not have: as integers of that size.
    return torch.from_numpy(RESULTS.empty(shape, f"i{like.dtype.itemsize}")).view(like.dtype)


@lru_cache
def _dtype_of_numpy(dtype: Any) -> np.dtype[Any] | None:
    """Return numpy's own dtype of that name; None where it has none, or one of another library, as JAX's bfloat16."""
    try:
        found = np.dtype(str(dtype).removeprefix("torch."))
    except TypeError:
        return None
    return found if found.isbuiltin == 1 else None


def store(into: Any, rows: int | slice, values: Any) -> None:
    """Set `into[rows] = values`, also in memory that was made under `torch.inference_mode`.

    Args:
        into: An array or tensor.
        rows: Which of its rows.
        values: What they become.
    """
    if sealed(into):
        import torch

        with torch.inference_mode():
            into[rows] = values
    else:
        into[rows] = values


def sealed(array: Any) -> bool:
    """Return whether it was made under `torch.inference_mode`, outside which it cannot be written to."""
    return not isinstance(array, np.ndarray) and bool(array.is_inference())


def ordinary(tensor: Any) -> Any:
    """Return `tensor`, or a copy that autograd can work with if it was made under `torch.inference_mode`."""
    return tensor.clone() if tensor.is_inference() else tensor


def is_out_of_memory(fault: Exception) -> bool:
    """Tell whether there was no memory on the CPU, as numpy says it or torch."""
    return isinstance(fault, MemoryError) or (isinstance(fault, RuntimeError) and "can't allocate memory" in str(fault))
