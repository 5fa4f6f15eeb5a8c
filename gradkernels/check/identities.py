"""What must hold between the quantities whatever the data: linearity and Pythagoras, not statistics.

Each identity sets a result against the reference of ANOTHER quantity, so that a kernel and a reference that
share a mistake in one definition still disagree.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gradkernels.check.known_gradients import lengths_by_hypot
from gradkernels.check.reference import Reference


@dataclass(frozen=True)
class Identity:
    """One equation.

    Attributes:
        says: The equation in words.
        left: Computed from a kernel's result, float64.
        right: Computed from the reference of another quantity.
        scale: Rounding scale of each entry.
    """

    says: str
    left: Any
    right: Any
    scale: Any


def identities(quantity: str, result: Any, reference: Reference) -> Iterator[Identity]:
    """Yield the identities that a result must fulfil.

    Args:
        quantity: Name of the quantity.
        result: What a kernel returned, as float64 numpy arrays.
        reference: The quantities as they must be.
    """
    if quantity == "per_sample":
        yield Identity("mean of rows = gradient", result.mean(0), reference.gradient, reference.mean_scale)
        norms = lengths_by_hypot(result.reshape(len(result), -1))
        yield Identity("norms of rows = norms", norms, reference.norms, reference.norm_scale)
    elif quantity == "gradient":
        yield Identity("gradient = mean of rows", result, reference.mean_row, reference.mean_scale)
    elif quantity == "norms":
        second = (reference.variance + reference.gradient**2).sum()
        says = "mean squared norm = sum of variance + mean^2"
        yield Identity(says, (result**2).mean(), second, 2 * reference.mean_square_norm_scale)
    elif quantity == "moments":
        says = "variance + mean^2 = mean of squared rows"
        left = result.variance + result.mean**2
        yield Identity(says, left, (reference.rows**2).mean(0), 4 * reference.mean_square_scale)
