"""Whether arrays share memory: told by their strides, since columns of one matrix lie between each other.

Rows of a module are often asked for in one matrix `(n, P)`, a block of columns for each parameter. From its first entry
to its last each block spans nearly all of the matrix, and still no two of them have an entry in common.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import Any

import numpy as np

WORK = 1000
"""Steps after which two views are no longer searched for a common entry; columns of one buffer take a few."""

Span = tuple[int, int, int, int, int]
"""Where a tensor is in memory: address of its first byte and after its last, its number among those that were given,
bytes from one of its first axis to the next (0 where all of it is in one stretch), and bytes of one of them."""


def overlap(one: Any, other: Any) -> bool:
    """Return whether two arrays of one library share an entry; where that is hard to say, whether they may."""
    if isinstance(one, np.ndarray):
        return isinstance(other, np.ndarray) and np.may_share_memory(one, other) and _shared(one, other)
    if one.device != other.device:
        return False
    spans = _spans((one, other))
    if len(spans) < 2 or spans[0][1] <= spans[1][0] or spans[1][1] <= spans[0][0]:
        return False
    return not _are_columns(spans) and _shared(*(np.asarray(_Places(part)) for part in (one, other)))


def overlapping(parts: Sequence[Any], others: Sequence[Any]) -> tuple[int, int | None] | None:
    """Find two of several arrays of one library and device that share an entry.

    Args:
        parts: None of which may share an entry with any array.
        others: Which may share entries with each other.

    Returns:
        The numbers of two parts; of one, and None, where it shares an entry with one of the others; or None.
    """
    if isinstance(parts[0], np.ndarray):
        pair = _first(combinations(range(len(parts)), 2), parts) if len(parts) > 1 else None
        return pair or _with_any(range(len(parts)), parts, others)
    runs = _runs(sorted(_spans(parts)))
    for run in runs:
        if len(run) > 1 and not _are_columns(run):
            places = sorted(span[2] for span in run)
            if pair := _first(combinations(places, 2), parts):
                return pair
    starts = [run[0][0] for run in runs]
    stops = [max([span[1] for span in run]) for run in runs]
    for start, stop, place, _, _ in _spans(others):
        last = bisect_left(starts, stop)
        while last and stops[last - 1] > start:  # runs lie one after the other
            last -= 1
            if found := _with_any(sorted(span[2] for span in runs[last]), parts, [others[place]]):
                return found
    return None


def overlaps_itself(array: Any) -> bool:
    """Return whether several entries of an array are one place in memory, or may be where that is hard to say."""
    if isinstance(array, np.ndarray):
        contiguous, steps, reach = array.flags.forc, [abs(step) for step in array.strides], array.itemsize
    else:
        contiguous, steps, reach = array.is_contiguous(), array.stride(), 1
    if contiguous or 0 in array.shape:
        return False
    for step, size in sorted(zip(steps, array.shape, strict=True)):
        if size > 1:
            if step < reach:
                return True
            reach += (size - 1) * step
    return False


def _first(pairs: Iterable[tuple[int, int]], parts: Sequence[Any]) -> tuple[int, int] | None:
    return next(((one, other) for one, other in pairs if overlap(parts[one], parts[other])), None)


def _with_any(places: Iterable[int], parts: Sequence[Any], others: Sequence[Any]) -> tuple[int, None] | None:
    for place in places:
        part = parts[place]
        for other in others:
            if overlap(part, other):
                return place, None
    return None


def _spans(tensors: Sequence[Any]) -> list[Span]:
    """Return where tensors are in memory, those that have any."""
    found: list[Span] = []
    for place, tensor in enumerate(tensors):
        try:
            start = tensor.data_ptr()
        except RuntimeError:  # sparse, say: what its numbers are in is other tensors
            continue
        if tensor.is_contiguous():
            if size := tensor.nbytes:
                found.append((start, start + size, place, 0, 0))
        elif tensor.numel():
            found.append(_strided(tensor, start, place))
    return found


def _strided(tensor: Any, start: int, place: int) -> Span:
    size, (count, *sizes), (pitch, *steps) = tensor.element_size(), tensor.shape, tensor.stride()
    while sizes and pitch == sizes[0] * steps[0]:  # samples and their outputs, say, are rows of one pitch
        count, pitch = count * sizes.pop(0), steps.pop(0)
    stretch = size
    for length, step in zip(sizes, steps, strict=True):
        stretch += (length - 1) * step * size
    pitch *= size
    return start, start + (count - 1) * pitch + stretch, place, pitch, stretch


def _runs(spans: list[Span]) -> list[list[Span]]:
    """Group spans, by their start, so that those of two groups have no byte in common."""
    runs: list[list[Span]] = []
    end = 0
    for span in spans:
        start, stop = span[:2]
        if start >= end:
            runs.append([span])
            end = stop
        else:
            runs[-1].append(span)
            end = max(end, stop)
    return runs


def _are_columns(spans: Sequence[Span]) -> bool:
    """Return whether these are blocks of columns beside each other: rows of one pitch, each in one stretch of it."""
    base, pitch = spans[0][0], spans[0][3]
    if not pitch:
        return False
    stretches = []
    for start, _, _, other, stretch in spans:
        if other != pitch:
            return False
        stretches.append(((start - base) % pitch, stretch))
    stretches.sort()
    end = 0
    for start, stretch in stretches:
        if start < end:
            return False
        end = start + stretch
    return end <= stretches[0][0] + pitch


def _shared(one: Any, other: Any) -> bool:
    try:
        return np.shares_memory(one, other, max_work=WORK)  # type: ignore[arg-type]  # its stubs say 0 or -1
    except np.exceptions.TooHardError:
        return True


class _Places:
    """Where a tensor's entries are, on whatever device, for numpy, which looks at none of them.

    Args:
        tensor: Of any strides.
    """

    def __init__(self, tensor: Any) -> None:
        size = tensor.element_size()
        self.__array_interface__ = {
            "data": (tensor.data_ptr(), True),
            "shape": tuple(tensor.shape),
            "strides": tuple(step * size for step in tensor.stride()),
            "typestr": f"|V{size}",
            "version": 3,
        }
