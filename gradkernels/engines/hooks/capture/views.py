"""Tensors and the tensors that they are views of."""

from __future__ import annotations

from collections.abc import Sequence

from gradkernels.backend import Array


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
