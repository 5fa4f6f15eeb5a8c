"""How numbers are written in every table, sentence and picture: one style of units and digits."""

from __future__ import annotations

import math

from gradkernels.bench.stats.estimates import LOOKS, Ratio, alpha_at

TIME_UNITS = (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6), ("ns", 1e-9))
_ROUNDED_UP = 0.99995  # of a unit: with four digits it is written as one
_CLOSE = 1.1
_MOST = 100
_MOST_PERCENT = 1000


def seconds(value: float | None) -> str:
    """Return a time in the unit that a person would choose, four digits: `12.34 µs`; nothing if there is none."""
    if value is None:
        return ""
    unit, size = next((unit for unit in TIME_UNITS if value >= _ROUNDED_UP * unit[1]), TIME_UNITS[-1])
    scaled = value / size
    return f"{scaled:,.0f} {unit}" if scaled >= 999.95 else f"{scaled:#.4g} {unit}"


def about(value: float) -> str:
    """Return a time by two digits, for what is not known better: `1.3 µs`, `120 µs`."""
    unit, size = next((unit for unit in TIME_UNITS if value >= 0.995 * unit[1]), TIME_UNITS[-1])
    scaled = float(f"{value / size:.2g}")
    return f"{scaled:.1f} {unit}" if scaled < 10 else f"{scaled:,.0f} {unit}"


def share(fraction: float) -> str:
    """Return a share as a percentage, `61%`; small ones by two digits, `0.37%`."""
    percentage = 100 * fraction
    return f"{percentage:.0f}%" if percentage >= 10 else f"{percentage:.2g}%" if percentage >= 0.01 else "<0.01%"


def percent(fraction: float | None) -> str:
    """Return a change as a percentage of two or three digits: `9.1%`, `24%`; `nothing` if there is none."""
    if fraction is None or not math.isfinite(fraction):
        return "nothing"
    if 100 * fraction > _MOST_PERCENT:
        return f"over {_MOST_PERCENT}%"
    return f"{100 * fraction:.{1 if fraction < 0.1 else 0}f}%"


def factor(ratio: float) -> str:
    """Return how many times as long something takes: three digits, and no exponent for what a person reads."""
    return f"{ratio:#.3g}".rstrip(".") if ratio < _MOST else f"{ratio:,.0f}"


def interval(known: Ratio, what: str | None = None) -> str:
    """Return `5.68 [4.89, 6.59]`, with three decimals where the ratio is close to one.

    Args:
        known: A ratio and its bounds; what is beyond 100 is not written out.
        what: In place of the ratio, such as `undecided`.
    """
    decimals = 3 if 1 / _CLOSE < known.ratio < _CLOSE else 2
    low, middle, high = (
        f"{value:.{decimals}f}" if value < _MOST else f">{_MOST}" for value in (known.low, known.ratio, known.high)
    )
    return f"{what or middle} [{low}, {high}]"


def confidence(passes: set[int]) -> str:
    """Return the level of intervals by numbers of passes: `99.6%`, or `99% to 99.6%` where it is not the same.

    Two bounds that each fail with probability alpha are an interval of level 1 - 2 alpha.

    Args:
        passes: The numbers of passes behind the intervals; for none of them, the level of the first look.
    """
    levels = sorted({round(100 * (1 - 2 * alpha_at(one)), 3) for one in passes or {LOOKS[0][0]}})
    low, high = f"{levels[0]:g}%", f"{levels[-1]:g}%"
    return low if low == high else f"{low} to {high}"
