"""Values with their units, short enough for a tick, and where ticks stand."""

from __future__ import annotations

import math

_SECONDS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))
_BYTES = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B"))
_ALMOST = 1 - 1e-9
"""Of powers of ten as floats, some of which are a little less."""

_MOST_TICKS = 8


def seconds_text(value: float) -> str:
    """Return `12.3 µs`."""
    return _with_unit(value, _SECONDS)


def bytes_text(value: float) -> str:
    """Return `1.5 MB`; units are powers of 1000."""
    return _with_unit(value, _BYTES)


def times_text(value: float) -> str:
    """Return `2.5×`."""
    return f"{_digits(value)}×"


def share_text(value: float) -> str:
    """Return `61%`."""
    return f"{_digits(100 * value)}%"


def count_text(value: float) -> str:
    """Return `1,000`."""
    return _digits(value)


def _with_unit(value: float, units: tuple[tuple[float, str], ...]) -> str:
    size, unit = next((one for one in units if value >= one[0] * _ALMOST), units[-1])
    return f"{_digits(value / size)} {unit}"


def _digits(value: float) -> str:
    """Return three digits, and all of a larger number; never an exponent where a person can count the zeros."""
    if value >= 99.95:
        return f"{value:,.0f}" if value < 1e9 else f"{value:.0e}"
    return f"{value:.3g}" if value >= 1e-4 * _ALMOST or not value else f"{value:.0e}"


def log_ticks(low: float, high: float) -> tuple[float, ...]:
    """Return where ticks stand on a logarithmic axis from `low` to `high`: powers of ten, of a short one 1, 2 and 5."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    steps = (1, 2, 5) if high < 300 * low else (1,)
    found = [step * 10.0**power for power in range(first, last + 1) for step in steps]
    inside = tuple(value for value in found if low <= value / _ALMOST and value * _ALMOST <= high)
    return inside[:: max(1, -(-len(inside) // _MOST_TICKS))]


def linear_ticks(high: float) -> tuple[float, ...]:
    """Return where ticks stand on an axis from 0 to `high`: four or five of them, a round number apart."""
    power = 10.0 ** math.floor(math.log10(high / 4))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor * _MOST_TICKS / 1.6 >= high)
    return tuple(step * number for number in range(int(high / step * (2 - _ALMOST)) + 1))
