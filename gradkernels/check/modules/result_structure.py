"""What a kernel's result must be besides right: of the quantity's structure, dtype and shape, in memory of its own."""

from __future__ import annotations

from typing import Any

from gradkernels.check.compare_arrays import Disagreement
from gradkernels.check.modules.sample_passes import CallerBatch
from gradkernels.check.structure import misfit
from gradkernels.memory.overlap import overlap
from gradkernels.quantities.shared.outputs import output_axes
from gradkernels.quantity import Options, Quantity
from gradkernels.tree import count, leaves


def require_structure(
    result: Any, quantity: Quantity, sample: CallerBatch, label: str, options: Options | None = None
) -> None:
    """Refuse another structure, dtype or shape than the quantity's, a graph, and memory of an input.

    Args:
        result: What a kernel returned.
        quantity: What was asked.
        sample: What the kernel was called with.
        label: Start of the message.
        options: Of the call; None where it has none.
    """
    if axes := output_axes(quantity, sample.y):
        options = {**(options or {}), **axes}
    blank = quantity.blank(count(sample.y), sample.theta, options)
    if says := misfit(result, blank, f"{quantity.name}'s structure"):
        raise Disagreement(f"{label}: returned {says}")
    parts = leaves(blank)
    names = [*sample.theta] * (len(parts) // len(sample.theta)) if quantity.per_parameter else [None] * len(parts)
    taken = [leaf for leaf in leaves((sample.theta, sample.x, sample.y)) if hasattr(leaf, "data_ptr")]
    for name, got, want in zip(names, leaves(result), parts, strict=True):
        at = f"{label}: {name}: " if name else f"{label}: "
        if tuple(got.shape) != want.shape:
            raise Disagreement(f"{at}shape {tuple(got.shape)}, expected {want.shape}")
        if name and quantity.name != "moments" and got.dtype != (dtype := sample.theta[name].dtype):
            raise Disagreement(f"{at}dtype {got.dtype}, expected {dtype}")
        if got.requires_grad:
            raise Disagreement(f"{at}part of a graph; detach it")
        if any(overlap(got, one) for one in taken):
            raise Disagreement(f"{at}returned memory of one of its inputs")
