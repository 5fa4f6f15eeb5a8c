"""The canary: the control timed a second time under another name, so that what tells the two apart is no kernel.

It is judged by the rule of the kernels. A file has one per case, and two files have one more for each case of both,
so Holm's method keeps all of them together at the false alarm rate of a single verdict.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gradkernels.bench.compare.matching import control_seconds
from gradkernels.bench.stats.estimates import (
    LogEstimate,
    PassId,
    Ratio,
    alpha_at,
    bounds,
    difference,
    holm,
    trimmed_mean,
)
from gradkernels.bench.stats.verdict import p_value, verdict
from gradkernels.key import CANARY
from gradkernels.record import Record

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
    before: Sequence[Record], after: Sequence[Record], names: tuple[str, str], delta: float
) -> tuple[Canary, ...]:
    """Judge the canaries of two sides, and what happened to them in between.

    Args:
        before: Records of the first side.
        after: Records of the second.
        names: What to call the two.
        delta: Fraction that a change must exceed to count.

    Returns:
        One per case of each side, and one per case of both; none for a side that was measured without.
    """
    sides = [_changes(side) for side in (before, after)]
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


def _changes(records: Sequence[Record]) -> dict[tuple[Any, ...], tuple[str, LogEstimate]]:
    """Return by machine and case: the case in words, and the logarithm of canary over control."""
    controls, canaries = control_seconds(records), control_seconds(records, CANARY)
    logs: dict[tuple[Any, ...], dict[PassId, float]] = {}
    words: dict[tuple[Any, ...], str] = {}
    for record in records:
        one = (record.run, record.pass_, record.case)
        if record.kernel == CANARY and one in controls and one in canaries:
            key = (record.machine, record.case)
            logs.setdefault(key, {})[record.run, record.pass_] = math.log(canaries[one]) - math.log(controls[one])
            words[key] = record.case.described("=")
    return {key: (words[key], trimmed_mean(list(values.values()))) for key, values in logs.items()}
