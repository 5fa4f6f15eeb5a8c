"""Settings of a regression: numbers and truth values, refused where they are none."""

from __future__ import annotations

from typing import Any

import numpy as np


def truth_value(name: str, value: Any) -> bool:
    """Return `value`; a TypeError unless it is True or False."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} is {value!r}; it must be True or False")
    return value


def finite_number(name: str, value: Any) -> float:
    """Convert `value` to a float; a TypeError unless it is a number, a ValueError unless it is finite."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        raise TypeError(f"{name} is {value!r}; it must be a number")
    if not np.isfinite(value):
        raise ValueError(f"{name} is {value}; it must be finite")
    return float(value)
