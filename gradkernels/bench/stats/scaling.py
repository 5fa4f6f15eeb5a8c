"""How the cost of a kernel grows: the exponent k of seconds = a + b n^k.

The model: a fixed cost a per call (dispatch, allocation, compiled code's entry) and a part that grows as a power of
n. All three are fitted to the relative residuals by least squares, with a and b at least 0: for each k the best a
and b are known in closed form, and the best k is searched for (variable projection, Golub & Pereyra 1973). Fewer
than three sizes cannot tell the fixed cost from the rest; they get the slope of log seconds on log n, fixed cost
included. The fit is made in every pass, and the passes, which are the replicates, give the interval.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradkernels.bench.stats.estimates import PassId, quantile, trimmed_mean

SIZES_FOR_FIXED_COST = 3
LEAST_GROWTH = 2.0
"""The largest size must take this many times as long as the smallest, or there is only fixed cost to be seen."""

MOST_FITS = 32
"""Of more passes, so many groups of consecutive ones are fitted, by the median of each."""

CONFIDENCE = 0.95
MOST_EXPONENT = 4.0
_GRID = np.linspace(0, MOST_EXPONENT, 401)
_REFINED = 4
"""Grids, each about the best of the one before: the last one's numbers are less than 1e-8 apart."""

_Floats = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Growth:
    """An exponent and its 95% interval, and the fixed cost beside what grows.

    Attributes:
        exponent: k of seconds = a + b n^k.
        low: Lower end; minus infinity when a single pass is all there is.
        high: Upper end; infinity likewise.
        first: Smallest size.
        last: Largest size.
        fixed_seconds: What a call takes whatever n, the median over passes; None where two sizes cannot tell it.
    """

    exponent: float
    low: float
    high: float
    first: int
    last: int
    fixed_seconds: float | None = None

    def __str__(self) -> str:
        level = f"{100 * CONFIDENCE:g}%"
        interval = f" [{level}: {self.low:.2f}, {self.high:.2f}]" if math.isfinite(self.high - self.low) else ""
        return f"n^{self.exponent:.2f}{interval} from n = {self.first:,} to {self.last:,}"


def growth(times: Mapping[PassId, Mapping[int, float]]) -> Growth | None:
    """Fit the exponent of one kernel.

    Args:
        times: Seconds per call by pass and n. A size that is missing from more than half of the passes is left out,
            then a pass that misses a size.

    Returns:
        None on fewer than two sizes, or where the cost does not even double.
    """
    found = [n for row in times.values() for n in row]
    sizes = sorted(n for n in set(found) if 2 * found.count(n) > len(times))
    rows = [[row[n] for n in sizes] for row in times.values() if row.keys() >= set(sizes)]
    if len(sizes) < 2 or not rows:
        return None
    middle = np.median(rows, axis=0)
    if middle[-1] < LEAST_GROWTH * middle[0]:
        return None
    groups = _in_groups(np.array(rows))
    exponents = [exponent(sizes, row) for row in groups]
    estimate = trimmed_mean(exponents)
    reach = quantile(estimate, (1 + CONFIDENCE) / 2) * estimate.error
    ends = estimate.log - reach, estimate.log + reach
    return Growth(estimate.log, *ends, sizes[0], sizes[-1], _fixed(sizes, groups, exponents))


def _fixed(sizes: Sequence[int], rows: Sequence[_Floats], exponents: Sequence[float]) -> float | None:
    """Return the fixed cost, the median over rows, and no more than any size takes."""
    if len(sizes) < SIZES_FOR_FIXED_COST:
        return None
    found = [fixed_cost(sizes, row, k) for row, k in zip(rows, exponents, strict=True)]
    return float(min(np.median(found), np.median(rows, axis=0).min()))


def _in_groups(rows: _Floats) -> list[_Floats]:
    """Return the rows of passes; of many the medians of so many groups of consecutive ones as are fitted."""
    if len(rows) <= MOST_FITS:
        return [*rows]
    return [np.median(group, axis=0) for group in np.array_split(rows, MOST_FITS)]


def exponent(sizes: Sequence[int], seconds: Sequence[float] | _Floats) -> float:
    """Fit the k of seconds = a + b n^k; of seconds = b n^k on two sizes.

    Args:
        sizes: n, ascending, at least two.
        seconds: As many.
    """
    logs = np.log(np.asarray(sizes, np.float64))
    times = np.asarray(seconds, np.float64)
    if len(sizes) < SIZES_FOR_FIXED_COST:
        return float(np.polyfit(logs, np.log(times), 1)[0])
    grid = _GRID
    for _ in range(_REFINED):
        best = grid[np.argmin(_misfit(grid, logs, times))]
        step = grid[1] - grid[0]
        grid = np.linspace(max(0.0, best - step), min(MOST_EXPONENT, best + step), len(_GRID))
    return float(best)


def fixed_cost(sizes: Sequence[int], seconds: Sequence[float] | _Floats, k: float) -> float:
    """Return the a of seconds = a + b n^k by least squares of the relative residuals; neither a nor b is negative.

    Args:
        sizes: n, ascending.
        seconds: As many.
        k: The exponent.
    """
    logs, times = np.log(np.asarray(sizes, np.float64)), np.asarray(seconds, np.float64)
    return float(_fit(np.array([k]), logs, times)[0][0])


def _misfit(exponents: _Floats, logs: _Floats, times: _Floats) -> _Floats:
    return _fit(exponents, logs, times)[1]


def _fit(exponents: _Floats, logs: _Floats, times: _Floats) -> tuple[_Floats, _Floats]:
    """Return, for each k, the best a and the sum of the squares of (a + b n^k - seconds) / seconds.

    Neither a nor b is negative.
    """
    # n^k over that of the largest size, so that nothing overflows.
    fixed, grown = 1 / times, np.exp(exponents[:, None] * (logs - logs[-1])) / times
    ff, fg, gg = (fixed**2).sum(), grown @ fixed, (grown**2).sum(-1)
    f, g = fixed.sum(), grown.sum(-1)
    determinant = ff * gg - fg**2
    with np.errstate(divide="ignore", invalid="ignore"):  # at k = 0 the two parts are the same
        a, b = (gg * f - fg * g) / determinant, (ff * g - fg * f) / determinant
    inside = (a >= 0) & (b >= 0)
    a = np.where(inside, a, 0.0)
    b = np.where(inside, b, g / gg)
    squares = ((a[:, None] * fixed + b[:, None] * grown - 1) ** 2).sum(-1)
    alone = ((f / ff * fixed - 1) ** 2).sum()  # with b = 0
    constant = ~inside & (alone < squares)
    return np.where(constant, f / ff, a), np.where(constant, alone, squares)
