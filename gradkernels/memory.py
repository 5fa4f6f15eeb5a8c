"""Memory for results and inputs: huge pages where they can be had, tensors that autograd can work with."""

from __future__ import annotations

import numpy as np

from gradkernels.backend import Array
from gradkernels.quantity import Shape


def empty_torch(shape: Shape, like: Array) -> Array:
    """An uninitialised tensor of `shape` with the dtype and device of `like`.

    On the CPU it is allocated by numpy, which advises the system to use huge pages for large arrays.
    """
    import torch

    with torch.inference_mode(False):  # or it could be written to nowhere else
        if like.device.type != "cpu":
            return torch.empty(shape, dtype=like.dtype, device=like.device)
        if like.dtype is torch.bfloat16:  # which numpy does not have
            return torch.from_numpy(np.empty(shape, np.int16)).view(like.dtype)
        return torch.from_numpy(np.empty(shape, str(like.dtype).removeprefix("torch.")))


def store(into: Array, rows: int | slice, values: Array) -> None:
    """`into[rows] = values`, also into memory that was made under `torch.inference_mode`."""
    if sealed(into):
        import torch

        with torch.inference_mode():
            into[rows] = values
    else:
        into[rows] = values


def sealed(array: Array) -> bool:
    """Whether it was made under `torch.inference_mode`, outside which it cannot be written to."""
    return not isinstance(array, np.ndarray) and bool(array.is_inference())


def ordinary(tensor: Array) -> Array:
    """`tensor`, or a copy that autograd can work with if it was made under `torch.inference_mode`."""
    return tensor.clone() if tensor.is_inference() else tensor
