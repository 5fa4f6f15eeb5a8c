"""The traffic that no kernel can do without: the column `least_bytes`."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from gradkernels.case import Case
from gradkernels.quantities.shared.outputs import output_axes
from gradkernels.tree import leaves


class Traffic(NamedTuple):
    """Bytes that any kernel must move for a case: theta, x and y read once, the result written once."""

    read: int
    written: int

    @property
    def least(self) -> int:
        """Both together: the column `least_bytes`."""
        return self.read + self.written


@lru_cache(maxsize=64)
def traffic(case: Case) -> Traffic:
    """Return the fewest bytes that a case moves; weights and class numbers count as what they are."""
    theta, *data = replace(case, n=1).draw()
    of_theta, of_sample = (sum(array.nbytes for array in leaves(part)) for part in (theta, tuple(data)))
    axes = output_axes(case.quantity, data[1])
    entries = sum(array.size for array in leaves(case.quantity.blank(case.n, theta, axes or None)))
    return Traffic(of_theta + case.n * of_sample, entries * np.dtype(case.dtype).itemsize)
