"""What counts as a change, and which slowdown fails a comparison: for every case, and for some of them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from gradkernels.bench.stats.verdict import DELTA
from gradkernels.key import Key

_FRACTION = re.compile(r"(\d+\.?\d*|\.\d+)(e[-+]?\d+)?", re.ASCII | re.IGNORECASE)


class RowThresholds(NamedTuple):
    """What holds for one case: the fraction that a change must exceed, and the slowdown that fails, if any."""

    delta: float
    fail_slower: float | None


@dataclass(frozen=True)
class Override:
    """Values for some cases; what it leaves open matches everything, and what it leaves None is not changed.

    Attributes:
        kernels: Keys or globs, one of which must match.
        quantity: Name of the quantity.
        low: Smallest n.
        high: Largest n.
        delta: Fraction that a change must exceed to count.
        fail_slower: Slowdown, as a fraction, that fails.
    """

    kernels: tuple[str, ...] = ()
    quantity: str | None = None
    low: int = 0
    high: float = math.inf
    delta: float | None = None
    fail_slower: float | None = None

    def matches(self, kernel: str, quantity: str, n: int) -> bool:
        """Return whether it is about a kernel and case.

        Args:
            kernel: The key.
            quantity: Name of the quantity.
            n: Number of samples.
        """
        named = not self.kernels or any(map(Key.parse(kernel).matches, self.kernels))
        return named and self.quantity in (None, quantity) and self.low <= n <= self.high

    def __str__(self) -> str:
        sizes = f"{self.low} to {self.high}" if self.low or self.high < math.inf else ""
        parts = {"kernel": " ".join(self.kernels), "quantity": self.quantity, "n": sizes}
        return ", ".join(f"{name} {value}" for name, value in parts.items() if value) or "everything"


@dataclass(frozen=True)
class Thresholds:
    """What holds where nothing else is said, and what is said for some cases.

    Attributes:
        delta: Fraction that a change must exceed to count.
        fail_slower: Slowdown, as a fraction, that fails; None fails nothing.
        overrides: Later ones win.
    """

    delta: float = DELTA
    fail_slower: float | None = None
    overrides: tuple[Override, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what is no fraction."""
        for name, value in (("delta", self.delta), ("fail_slower", self.fail_slower)):
            if value is not None and not 0 <= value < math.inf:
                raise ValueError(f"{name} is {value}; it must be a fraction of at least 0, for instance 0.01")

    def of(self, kernel: str, quantity: str, n: int) -> RowThresholds:
        """Return what holds for a kernel and case.

        Args:
            kernel: The key.
            quantity: Name of the quantity.
            n: Number of samples.
        """
        found = [override for override in self.overrides if override.matches(kernel, quantity, n)]
        delta = next((one.delta for one in reversed(found) if one.delta is not None), self.delta)
        slower = next((one.fail_slower for one in reversed(found) if one.fail_slower is not None), self.fail_slower)
        return RowThresholds(delta, slower)

    def unused(self, rows: Iterable[tuple[str, str, int]]) -> tuple[str, ...]:
        """Return the overrides that match no row, of which one may be mistyped; a row is `(kernel, quantity, n)`."""
        seen = set(rows)
        return tuple(str(one) for one in self.overrides if not any(one.matches(*row) for row in seen))


DEFAULT_THRESHOLDS = Thresholds()


def fraction(text: str, option: str) -> float:
    """Return the fraction that a person wrote as `5%` or `0.05`.

    Raises:
        ValueError: Anything else, also a bare number from 1 up, which could be meant either way.
    """
    text = text.strip()
    number = text.removesuffix("%")
    percent = number != text
    value = float(number) / (100 if percent else 1) if _FRACTION.fullmatch(number.strip()) else math.nan
    if value >= 1 and not percent:
        raise ValueError(f"{option} {text} could mean {text}% or {text} times; write {text}% or a fraction below 1")
    if not value < math.inf:
        raise ValueError(f"{option} is {text!r}; write a percentage such as 5% or a fraction such as 0.05")
    return value
