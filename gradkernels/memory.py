"""Memory for results and inputs: huge pages where they can be had, tensors that autograd can work with."""

from __future__ import annotations

from typing import Any

import numpy as np


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

    On the CPU it is allocated by numpy, which advises the system to use huge pages for large arrays.
    """
    import torch

    with torch.inference_mode(False):  # or it could be written to nowhere else
        if like.device.type != "cpu":
            return torch.empty(shape, dtype=like.dtype, device=like.device)
        if like.dtype is torch.bfloat16:  # which numpy does not have
            return torch.from_numpy(np.empty(shape, np.int16)).view(like.dtype)
        return torch.from_numpy(np.empty(shape, str(like.dtype).removeprefix("torch.")))


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
