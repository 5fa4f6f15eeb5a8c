"""Inputs of a case as every library sees them: shared, read-only, laid down afresh at random places.

Where an array happens to lie is a bias that outlives a pass (a kernel can look 2% slower than itself), so the
inputs move to another cache-line offset before each block.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from gradkernels.backend import BACKENDS, Array
from gradkernels.case import Inputs
from gradkernels.tree import each, leaves

LINE_BYTES = 64
PAGE_BYTES = 4096
MOST_RENEWED_BYTES = 2**20  # copying more before each block would take longer than the block


class SharedInputs:
    """Theta, x and y for several libraries; `arrays[library]` is what its kernels are called with."""

    def __init__(self, inputs: Inputs, libraries: Iterable[str], device: str, rng: np.random.Generator) -> None:
        self.inputs = inputs
        self.arrays: dict[str, tuple[Array, ...]] = dict.fromkeys(libraries, ())
        self._device = device
        self._rng = rng
        self._small = sum(array.nbytes for array in leaves(inputs)) <= MOST_RENEWED_BYTES
        self._changed = False
        self._lay_down()

    def renew(self) -> None:
        """Move small and middle-sized inputs to a new place."""
        if self._small:
            self._changed = self.changed()
            self._lay_down()

    def changed(self) -> bool:
        """Return whether a kernel has written to them, in any place where they have been."""
        return self._changed or not all(map(_same_bits, leaves(self._placed), leaves(self.inputs)))

    def _lay_down(self) -> None:
        self._placed = each(lambda array: _placed(array, self._rng), self.inputs)
        for library in self.arrays:
            backend = BACKENDS[library]
            self.arrays[library] = backend.wait(backend.put(self._placed, self._device))


def _same_bits(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> bool:
    bits = f"u{one.itemsize}"  # also where the values are NaN
    return np.array_equal(one.view(bits), other.view(bits))


def _placed(array: np.ndarray[Any, Any], rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """Return a read-only copy that starts at a random cache line of a page."""
    room = np.empty(array.nbytes + 2 * PAGE_BYTES, np.uint8)
    offset = -room.ctypes.data % PAGE_BYTES + LINE_BYTES * int(rng.integers(PAGE_BYTES // LINE_BYTES))
    order = "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"
    copy = room[offset : offset + array.nbytes].view(array.dtype).reshape(array.shape, order=order)
    copy[...] = array
    copy.flags.writeable = False
    return copy
