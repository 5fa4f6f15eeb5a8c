"""Packed sequences: `torch.nn.utils.rnn` puts steps of all samples behind each other along one axis, and back.

Where each entry of that axis belongs follows from the lengths, by which packing asks; a layer is run padded, with the
longest sample first, and each step for the samples that have it alone.
"""

from __future__ import annotations

from typing import Any

import torch

from gradkernels.backend import Array
from gradkernels.engines.hooks.capture.sample_axis import Axis, SamplePermutation
from gradkernels.engines.hooks.capture.tape import Tape


def pack(tape: Tape, args: tuple[Any, ...]) -> tuple[Array, Array] | None:
    """Run `_pack_padded_sequence(input, lengths, batch_first)` of data; return None for other calls.

    Args:
        tape: The pass.
        args: Of the call.
    """
    padded, lengths, batch_first = args
    tag = tape.tracker.tag(padded)
    if tag is None or tag.axis is None or tag.axis.merged or tag.axis.dim != (0 if batch_first else 1):
        return None
    with tape.paused():
        data, sizes = torch._pack_padded_sequence(padded, lengths, batch_first)
        order = torch.arange(tape.n, device=data.device) if tag.axis.order is None else tag.axis.order.order
        packed = Axis(0, order=SamplePermutation(order, tuple(lengths.tolist())))
    tape.tracker.mark_boundary(data, packed, flows=tag.flows)
    return data, sizes


def unpack(tape: Tape, args: tuple[Any, ...]) -> tuple[Array, Array] | None:
    """Run `_pad_packed_sequence(data, sizes, batch_first, ...)` of what `pack` has packed; None for other calls.

    Args:
        tape: The pass.
        args: Of the call.
    """
    data, _, batch_first = args[:3]
    tag = tape.tracker.tag(data)
    if tag is None or tag.axis is None or not tag.axis.packed:
        return None
    with tape.paused():
        padded, lengths = torch._pad_packed_sequence(*args)
    tape.tracker.mark_boundary(padded, padded_axis(tag.axis, 0 if batch_first else 1), flows=tag.flows)
    return padded, lengths


def padded_axis(packed: Axis, dim: int) -> Axis:
    """Return the axis of samples in sequences that are no longer packed.

    Args:
        packed: Where they were.
        dim: Where it is now.
    """
    assert packed.order is not None
    order = packed.order.order
    natural = torch.equal(order, torch.arange(len(order), device=order.device))
    return Axis(dim) if natural else Axis(dim, order=SamplePermutation(order))
