"""The canary: the control timed a second time under another name, so that what tells the two apart is no kernel.

It is judged by the rule of the kernels. A file has one per case, and two files have one more for each case of both,
so Holm's method keeps all of them together at the false alarm rate of a single verdict.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradkernels.bench.compare.logs import logs_of
from gradkernels.bench.results.table import ResultsTable, distinct, groups
from gradkernels.bench.stats.estimates import (
    LogEstimate,
    Ratio,
    alpha_at,
    bounds,
    difference,
    holm,
    trimmed_mean,
)
from gradkernels.bench.stats.verdict import p_value, verdict
from gradkernels.coordinates import Coordinates
from gradkernels.key import CANARY, CONTROL

BETWEEN = "between the two sides"


@dataclass(frozen=True)
class Canary:
    """The canary over the control on one case.

    Attributes:
        where: The side's name, or that it is the change from one side to the other.
        case: The case in words.
        change: The ratio, which is 1 but for the harness and the machine.
        flagged: Whether it is called slower or faster.
    """

    where: str
    case: str
    change: Ratio
    flagged: bool

    def __str__(self) -> str:
        return f"{self.change} {self.where} at {self.case}"


def judge_canaries(
    tables: tuple[ResultsTable, ResultsTable], names: tuple[str, str], delta: float
) -> tuple[Canary, ...]:
    """Judge the canaries of two sides, and what happened to them in between.

    Args:
        tables: The rows of both sides, aligned.
        names: What to call the two.
        delta: Fraction that a change must exceed to count.

    Returns:
        One per case of each side, and one per case of both; none for a side that was measured without.
    """
    sides = [_changes(side) for side in tables]
    found = [
        (name, case, change) for name, side in zip(names, sides, strict=True) for _, (case, change) in side.items()
    ]
    both = (key for key in sides[0] if key in sides[1])
    found += [(BETWEEN, sides[0][key][0], difference(sides[0][key][1], sides[1][key][1])) for key in both]
    adjusted = holm([p_value(change, delta) for _, _, change in found])
    return tuple(
        Canary(where, case, bounds(change), p <= alpha_at(change.passes) and _differs(change, delta))
        for (where, case, change), p in zip(found, adjusted, strict=True)
    )


def _differs(change: LogEstimate, delta: float) -> bool:
    return verdict(bounds(change), delta) in ("slower", "faster")


def _changes(side: ResultsTable) -> dict[tuple[str, Coordinates], tuple[str, LogEstimate]]:
    """Return by machine and case: the case in words, and the logarithm of canary over control."""
    side = side[side.where("kernel", (CANARY, CONTROL).__contains__)]
    (logs,) = logs_of([side])
    rows = np.flatnonzero(side.where("kernel", CANARY.__eq__) & ~np.isnan(logs.seconds) & ~np.isnan(logs.control))
    (machines, cases), place = distinct(side.machine[rows], side.case[rows])
    ratios = logs.seconds[rows] - logs.control[rows]
    found = {}
    # In the order of their first rows.
    for machine, case, own in sorted(zip(machines, cases, groups(place), strict=True), key=lambda one: int(one[2][0])):
        key = (side.machines[machine], side.cases[case])
        _, pass_ = distinct(logs.pass_[rows[own]])  # a pass counts once, however many processes it took
        means = np.bincount(pass_, ratios[own]) / np.bincount(pass_)
        found[key] = (key[1].described("="), trimmed_mean(means))
    return found
