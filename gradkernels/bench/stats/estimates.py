"""Estimates over passes: trimmed means on the log scale, their bounds, and what a family of them says.

The unit of replication is the pass, one fresh start of the processes: rounds within a pass go up and down together.
Times are compared as logarithms, so that a ratio and its inverse are treated alike.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from statistics import fmean
from typing import Any

import numpy as np

if find_spec("scipy") is None:  # said now, and not when a run of minutes comes to its verdict: it is loaded there
    raise ModuleNotFoundError("No module named 'scipy'", name="scipy")

LOOKS = ((8, 0.002), (16, 0.003), (32, 0.005))
"""Passes at which a comparison may be looked at, and the one-sided alpha that each look spends."""

PASSES_PER_CUT = 8
"""One pass in so many is trimmed on each side."""

Floats = np.ndarray[Any, np.dtype[np.float64]]
Ints = np.ndarray[Any, np.dtype[np.signedinteger[Any]]]
PassId = tuple[str, int]
"""One pass: its run and its number."""

BlockId = tuple[str, int, int]
"""One process of a pass: run, pass and its number there. Only what one process timed took turns."""


@dataclass(frozen=True)
class LogEstimate:
    """A mean on the log scale and how well it is known.

    Attributes:
        log: The mean: of log seconds, or of a log ratio.
        error: Standard error of the mean; infinite when a single pass is all there is.
        freedom: Degrees of freedom of its Student t.
        passes: Passes behind it; of the smaller side when it is a difference.
    """

    log: float
    error: float
    freedom: float
    passes: int


@dataclass(frozen=True)
class Ratio:
    """A ratio of times with two one-sided bounds.

    Attributes:
        ratio: The estimate.
        low: Lower bound, 0 when nothing is known.
        high: Upper bound, infinite when nothing is known.
        passes: Passes behind it, of the smaller side.
    """

    ratio: float
    low: float
    high: float
    passes: int

    def __str__(self) -> str:
        return f"{self.ratio:.3f} [{self.low:.3f}, {self.high:.3f}]"


def alpha_at(passes: int) -> float:
    """Return the one-sided alpha of the last look that `passes` reach; that of the first look below it."""
    return max((alpha for look, alpha in LOOKS if look <= passes), default=LOOKS[0][1])


def trimmed_mean(values: Sequence[float] | Floats, cut: int | None = None) -> LogEstimate:
    """Return the trimmed mean with the standard error of Yuen (1974).

    With h values kept and S the sum of squared deviations of the winsorised sample, the squared error is
    S / (h (h - 1)) on h - 1 degrees of freedom.

    Args:
        values: One value per pass, on the log scale, at least one.
        cut: How many are trimmed on each side; one per 8 passes by default.
    """
    ordered = np.sort(np.asarray(values, np.float64))
    count = len(ordered)
    cut = count // PASSES_PER_CUT if cut is None else cut
    middle = ordered[cut : count - cut]
    if len(middle) < 2:
        return LogEstimate(float(np.median(ordered)), math.inf, 1, count)
    winsorised = ordered.clip(middle[0], middle[-1])
    squares = float(((winsorised - winsorised.mean()) ** 2).sum())
    error = math.sqrt(squares / (len(middle) * (len(middle) - 1)))
    return LogEstimate(float(middle.mean()), error, len(middle) - 1, count)


def middle(values: Floats) -> float:
    """Return the median of at least one number."""
    ordered = np.sort(values)
    half = len(ordered) // 2
    return float(ordered[half]) if len(ordered) % 2 else (float(ordered[half - 1]) + float(ordered[half])) / 2


def difference(before: LogEstimate, after: LogEstimate) -> LogEstimate:
    """Return `after - before` for independent samples: Yuen (1974), with the degrees of freedom of Welch (1947)."""
    error = math.hypot(before.error, after.error)
    freedom: float = min(before.freedom, after.freedom)
    if 0 < error < math.inf:
        one, two = (before.error / error) ** 4, (after.error / error) ** 4
        freedom = 1 / (one / before.freedom + two / after.freedom)
    return LogEstimate(after.log - before.log, error, freedom, min(before.passes, after.passes))


def mean_over_strata(estimates: Sequence[LogEstimate]) -> LogEstimate:
    """Return the mean of independent estimates, each of a stratum of its own and counting the same.

    The variance of the mean of k is the sum of theirs over k squared, with the degrees of freedom of Satterthwaite
    (1946).

    Args:
        estimates: At least one.
    """
    error = math.hypot(*(one.error for one in estimates))
    freedom: float = min(one.freedom for one in estimates)
    if 0 < error < math.inf:
        freedom = 1 / sum((one.error / error) ** 4 / one.freedom for one in estimates)
    passes = sum(one.passes for one in estimates)
    return LogEstimate(fmean(one.log for one in estimates), error / len(estimates), freedom, passes)


def bounds(estimate: LogEstimate, alpha: float | None = None) -> Ratio:
    """Return the ratio whose logarithm is estimated, each bound one-sided at `alpha` (by default that of the look)."""
    alpha = alpha_at(estimate.passes) if alpha is None else alpha
    reach = quantile(estimate, 1 - alpha) * estimate.error
    low, high = _exp(estimate.log - reach), _exp(estimate.log + reach)
    return Ratio(_exp(estimate.log), low, high, estimate.passes)


def quantile(estimate: LogEstimate, probability: float) -> float:
    """Return a quantile of the estimate's Student t."""
    from scipy.special import stdtrit  # a quarter of the time until a command begins, and many never come here

    return float(stdtrit(estimate.freedom, probability))


def _exp(log: float) -> float:
    return math.exp(log) if log < 700 else math.inf


def mean_over_rows(rows: Sequence[Mapping[PassId, float]]) -> LogEstimate:
    """Return the mean of several rows' means, known as well as the passes allow.

    Rows of one pass share its noise, so their average per pass is what replicates. A row that misses a pass
    leaves that pass's average to the others (a sum over clusters, as in Liang & Zeger 1986).

    Args:
        rows: Per row, log seconds by pass.
    """
    position = {one: place for place, one in enumerate(dict.fromkeys(one for row in rows for one in row))}
    places = [np.array([position[one] for one in row]) for row in rows]
    return mean_of_arrays(places, [np.array(list(row.values())) for row in rows])


def mean_of_arrays(passes: Sequence[Ints], logs: Sequence[Floats]) -> LogEstimate:
    """Return the mean of `mean_over_rows` of rows that are arrays.

    Args:
        passes: Per row, the positions of its passes, each once, among whatever passes there are.
        logs: Per row, as many log seconds.
    """
    there, place = np.unique(np.concatenate(passes), return_inverse=True)
    moved = np.zeros(len(there))
    for row, own in zip(logs, np.split(place, np.cumsum([len(row) for row in logs])[:-1]), strict=True):
        moved[own] += (row - fmean(row)) * len(there) / (len(row) * len(logs))
    return replace(trimmed_mean(moved), log=fmean(trimmed_mean(row).log for row in logs))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for being a family, by Holm (1979): reject what is at most alpha."""
    values = np.asarray(p_values, np.float64)
    order = np.argsort(values, kind="stable")
    stepped = values[order] * np.arange(len(values), 0, -1)
    adjusted = np.empty_like(values)
    adjusted[order] = np.maximum.accumulate(stepped).clip(max=1.0)
    return [float(value) for value in adjusted]


def clopper_pearson(hits: int, trials: int, alpha: float = 0.05) -> tuple[float, float]:
    """Return exact limits for a probability (Clopper & Pearson 1934).

    Args:
        hits: How often it came about.
        trials: Of how many.
        alpha: Probability that the limits miss it, half of it on each side.

    Raises:
        ValueError: Hits are negative or more than the trials, or there are no trials.
    """
    if not 0 <= hits <= trials or trials == 0:
        raise ValueError(f"{hits} hits in {trials} trials: hits must lie between 0 and the trials, at least 1 of them")
    from scipy.special import betaincinv

    low = float(betaincinv(hits, trials - hits + 1, alpha / 2)) if hits else 0.0
    high = float(betaincinv(hits + 1, trials - hits, 1 - alpha / 2)) if hits < trials else 1.0
    return low, high
