"""Tensors and the tensors that they are views of."""

from __future__ import annotations

from collections.abc import Sequence

from gradkernels.backend import Array
from gradkernels.engines.hooks.capture.sample_axis import Axis


def unviewed(output: Array, inputs: Sequence[Array]) -> Array:
    """Return an output, or the tensor that it is another shape of.

    What is then done to a view in place is done to what it is a view of, and autograd takes the view out of its graph.

    Args:
        output: Of a call.
        inputs: Tensors that the call takes, which an output may be a view of.
    """
    base = output._base
    if base is None or base.grad_fn is None or base.numel() != output.numel():
        return output
    if not (base.is_contiguous() and output.is_contiguous()) or any(base is one or base is one._base for one in inputs):
        return output
    return base


def block_of(tensor: Array, whole: Array) -> range | None:
    """Return the entries of a parameter that a tensor is a view of; None where it is no contiguous block of them."""
    if tensor is not whole and (tensor._base is not whole or not tensor.is_contiguous() or not whole.is_contiguous()):
        return None
    start = tensor.storage_offset() - whole.storage_offset()
    return range(start, start + tensor.numel())


def axis_of_base(base: Array, view: Array, axis: Axis) -> Axis | None:
    """Return the axis of a tensor that the samples of a view lie along; None where it is not exactly one.

    Args:
        base: What it is a view of.
        view: The view.
        axis: Where its samples are.
    """
    strides, sizes = base.stride(), base.shape
    here = view.stride(axis.dim), view.shape[axis.dim]
    dims = [dim for dim in range(base.ndim) if (strides[dim], sizes[dim]) == here]
    return axis.moved(dims[0]) if len(dims) == 1 else None
