"""Passes that are on both sides of a comparison: times compared with themselves say nothing of the code."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gradkernels.bench.compare.matching import Pair
from gradkernels.bench.results.table import Flags, ResultsTable, distinct
from gradkernels.names import counted

_ROW = ("run_name", "pass_", "machine", "case", "kernel")


def count_of_same(pairs: Sequence[Pair], sides: Sequence[ResultsTable], names: Sequence[str]) -> int:
    """Count the pairs that are the same measurements on both sides, pass by pass and to the last digit.

    Args:
        pairs: Of the rows of two sides.
        sides: All of their rows, aligned.
        names: What to call them.

    Raises:
        ValueError: A pair has some passes in common and others not, as with a file that was merged from the other.
    """
    on_both = _on_both(sides)
    same = 0
    for one in pairs:
        here, there = (flags[rows.timed] for flags, rows in zip(on_both, (one.before, one.after), strict=True))
        if not here.any():
            continue
        if not (here.all() and there.all()):
            raise ValueError(_sentence(one, here, names))
        same += 1
    return same


def _on_both(sides: Sequence[ResultsTable]) -> list[Flags]:
    """Return which timed rows of each side are a row of the other: the same pass, case and kernel, and its time."""
    common = set.intersection(*({facts.run for facts in side.used("run")} for side in sides))
    rows = [np.flatnonzero(side.timed & side.where("run", lambda facts: facts.run in common)) for side in sides]
    columns = [
        np.concatenate([getattr(side, name)[own] for side, own in zip(sides, rows, strict=True)])
        for name in (*_ROW, "seconds")
    ]
    _, seconds = np.unique(columns.pop(), return_inverse=True)
    _, code = distinct(*columns, seconds)
    codes = np.split(code, [len(rows[0])])
    flags = [np.zeros(len(side), bool) for side in sides]
    for flag, own, found, other in zip(flags, rows, codes, codes[::-1], strict=True):
        flag[own] = np.isin(found, other)
    return flags


def _sentence(one: Pair, here: Flags, names: Sequence[str]) -> str:
    side, timed = one.before.side, one.before.timed
    run = side.runs[side.run[timed[here][0]]].run
    what = f"{counted(int(here.sum()), 'pass')} of kernel {one.kernel} of {one.case.described('=')}"
    return (
        f"{' and '.join(names)} both hold {what} (run {run}), which would be compared with themselves beside others; "
        "compare files that have no pass in common"
    )
