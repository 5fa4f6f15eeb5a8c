"""Where a row of results belongs: machine, case and kernel, and what rows of one place must not be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gradkernels.bench.results.table import ResultsTable, distinct
from gradkernels.bench.stats.estimates import Ints
from gradkernels.coordinates import Coordinates

MEANS = ("machine", "dtype", "layout", "device", "threads")
"""What a comparison may be forced across: the same work by other means."""

Place = tuple[str, Coordinates, str]
"""Machine, case and kernel."""


def place_at(side: ResultsTable, row: Any) -> Place:
    """Return the place of one row of a side."""
    return side.runs[side.run[row]].machine, side.cases[side.case[row]], side.kernels[side.kernel[row]]


def places(side: ResultsTable) -> tuple[list[Place], Ints]:
    """Return machine, case and kernel, each combination once, and per row the position of its own."""
    codes, inverse = distinct(side.machine, side.case, side.kernel)
    found = [(side.machines[m], side.cases[c], side.kernels[k]) for m, c, k in zip(*codes, strict=True)]
    return found, inverse


def part_of(place: Place, name: str) -> Any:
    """Return the machine, the kernel or a coordinate of a place."""
    machine, case, kernel = place
    return machine if name == "machine" else kernel if name == "kernel" else getattr(case, name)


def values_of(places: Sequence[Place], name: str) -> set[Any]:
    """Return the different values of one part of some places."""
    return {part_of(place, name) for place in places}


def require_one_place(found: Sequence[Place], codes: Sequence[int], name: str) -> None:
    """Refuse a side on which one group is of several places: forced, what was measured apart would be one sample.

    Args:
        found: The places of a side.
        codes: Per place, the group that it is of.
        name: Of the side.
    """
    first: dict[int, Place] = {}
    for place, code in zip(found, codes, strict=True):
        if (other := first.setdefault(code, place)) != place:
            _, case, kernel = place
            apart = [part for part in MEANS if part_of(other, part) != part_of(place, part)]
            differ = " and ".join(f"{part} {part_of(other, part)} and {part_of(place, part)}" for part in apart)
            raise ValueError(
                f"{name} holds kernel {kernel} of {case.quantity} at n={case.n} for {differ}, which forced would count "
                f"as one sample; force the comparison of files with one {' and '.join(apart)} each"
            )


def require_once(side: ResultsTable, code: Ints, name: str) -> None:
    """Refuse a side of which two rows are the same pass of what is one group.

    Args:
        side: Its rows.
        code: Per row, the group that it is of.
        name: Of the side.
    """
    _, pass_ = side.pass_ids
    first, row = distinct(code, pass_, side.own_block)
    if len(first[0]) == len(code):
        return
    twice = int(np.setdiff1d(np.arange(len(row)), np.unique(row, return_index=True)[1])[0])
    _, case, kernel = place_at(side, twice)
    raise ValueError(
        f"{name} holds kernel {kernel} of {case.described('=')} twice for run {side.runs[side.run[twice]].run}, "
        f"pass {side.pass_[twice]}; keep one of the two rows"
    )
