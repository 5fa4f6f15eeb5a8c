"""Logarithms of the times of many rows, and of the control that was timed beside each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gradkernels.bench.results.table import ResultsTable, distinct
from gradkernels.bench.stats.estimates import Floats, Ints
from gradkernels.key import CONTROL

_AT_ONCE = 2**16


@dataclass(frozen=True)
class SideLogs:
    """Of each row of a side.

    Attributes:
        seconds: The logarithm of its time; NaN for none.
        control: That of the control of its case in the process that timed it; NaN where it was not timed.
        pass_: The position of its pass among those of both sides.
    """

    seconds: Floats
    control: Floats
    pass_: Ints


def logarithms(values: Floats) -> Floats:
    """Return natural logarithms, NaN of NaN; those of the C library, whose last digit is the same on every machine."""
    logs = np.empty(len(values))
    for begin in range(0, len(values), _AT_ONCE):  # a number of Python's takes four times the memory
        part = values[begin : begin + _AT_ONCE].tolist()
        logs[begin : begin + len(part)] = list(map(math.log, part))
    return logs


def logs_of(sides: Sequence[ResultsTable], kernel: str = CONTROL) -> list[SideLogs]:
    """Return the logarithms for sides that are compared: a control on either counts for both.

    Args:
        sides: Their rows, aligned.
        kernel: What to divide by.
    """
    run = np.concatenate([side.run_name for side in sides])
    number = np.concatenate([side.pass_ for side in sides])
    block, case = (np.concatenate([getattr(side, name) for side in sides]) for name in ("block", "case"))
    _, pass_ = distinct(run, number)
    _, place = distinct(pass_, block, case)
    seconds = logarithms(np.concatenate([side.seconds for side in sides]))
    chosen = np.concatenate([side.where("kernel", kernel.__eq__) for side in sides]) & ~np.isnan(seconds)
    control = np.full(int(place.max(initial=-1)) + 1, np.nan)
    control[place[chosen]] = seconds[chosen]  # of several the last
    ends = np.cumsum([len(side) for side in sides])[:-1]
    columns = (np.split(column, ends) for column in (seconds, control[place], pass_))
    return [SideLogs(*one) for one in zip(*columns, strict=True)]
