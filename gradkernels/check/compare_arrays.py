"""Two arrays agree entry by entry, or `Disagreement` says where and by how much they do not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


class Disagreement(ArithmeticError):
    """A kernel's result is not what its definition says; the message tells where and by how much."""


class Unprovable(Disagreement):
    """A result cannot be held to anything: how far it may be rounded is beyond the numbers of float64."""


EntryNamer = Callable[[tuple[int, ...]], str]
"""What a message calls the entry at an index."""


def plain_entry(at: tuple[int, ...]) -> str:
    """Return `entry (3, 1)`."""
    return f"entry {at}"


def compare_entries(
    values: Any, want: Any, scale: Any, tolerance: float, where: str, tell: EntryNamer = plain_entry
) -> float:
    """Hold every entry of `values` against `want`.

    Args:
        values: What was computed, as float64.
        want: What should have been.
        scale: Scale of each entry's rounding error.
        tolerance: Error allowed, in units of the scale.
        where: Start of the message.
        tell: What it calls an entry.

    Returns:
        The worst error, in units of its entry's scale.

    Raises:
        Disagreement: An entry is off by more, finite where it should not be, or not finite in another way.
        Unprovable: One is not what it should have been, and its scale is not finite.
    """
    if (odd := np.isfinite(values) != np.isfinite(want)).any():
        raise Disagreement(f"{where}: {_entry(values, want, odd, tell)}, one of them not finite")
    same = (values == want) | (np.isnan(values) & np.isnan(want))
    if (odd := ~(np.isfinite(want) | same)).any():
        raise Disagreement(f"{where}: {_entry(values, want, odd, tell)}, neither of them finite")
    known = np.isfinite(scale)
    error = np.where(known & ~same, np.abs(values - want) / scale, 0.0)
    worst = float(error.max(initial=0.0))
    if worst > tolerance:
        at = _entry(values, want, error == worst, tell)
        raise Disagreement(f"{where}: {at}, off by {worst:.2g} of its scale, allowed {tolerance:.2g}")
    # A scale that is not finite proves nothing, so it allows nothing.
    if (odd := ~known & ~same).any():
        says = "its rounding leaves the range of float64, so that nothing can be proven; scale the data"
        raise Unprovable(f"{where}: {_entry(values, want, odd, tell)}, and {says}")
    return worst


def _entry(values: Any, want: Any, mask: Any, tell: EntryNamer) -> str:
    at = tuple(int(i) for i in np.argwhere(mask)[0])
    return f"{tell(at)} is {float(np.asarray(values)[at])!r}, expected {float(np.asarray(want)[at])!r}"
