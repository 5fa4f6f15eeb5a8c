"""In which order samples lie in an axis that they were merged into: found by sending their numbers the same way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from gradkernels.backend import Array
from gradkernels.hooks.axis import FEW, Axis
from gradkernels.hooks.calls import Function, Place, leaves, replaced


def numbers(tensor: Array, axis: Axis) -> Array:
    """A tensor of the same shape, for FEW samples, whose entries are the numbers of their samples."""
    known = torch.arange(FEW, dtype=tensor.dtype, device=tensor.device)
    along = known.repeat_interleave(axis.inner) if axis.slowest else known.repeat(axis.inner)
    return along.view(-1, *[1] * (tensor.ndim - axis.dim - 1)).expand(tensor.shape).clone()


def order_of(function: Function, arguments: Any, data: Mapping[Place, Axis], at: int, axis: Axis) -> bool | None:
    """Whether samples vary slowest in a merged axis of an output.

    Args:
        function: What was called.
        arguments: `{"args": ..., "kwargs": ...}` for FEW samples.
        data: The samples' axes in them.
        at: Which of the outputs.
        axis: Where the samples are in it.

    Returns:
        None if the function does more than to arrange its inputs.
    """
    tensors = dict(leaves(arguments))
    given = replaced(arguments, {place: numbers(tensors[place].detach(), of) for place, of in data.items()})
    try:
        with torch.no_grad():
            output = [value for _, value in leaves(function(*given["args"], **given["kwargs"]))][at]
    except (RuntimeError, TypeError, ValueError, IndexError):  # it cannot be called with these numbers
        return None
    for slowest in (True, False):
        if torch.equal(output, numbers(output, Axis(axis.dim, axis.inner, slowest))):
            return slowest
    return None
