"""What was seen, step by step, in few numbers: a list of records, and a table of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any


class SeenRecord:
    """One quantity at one step.

    Attributes:
        step: Number of the step, from 0.
        quantity: Its name.
    """

    def __init__(self, step: int, quantity: str, summarize: Callable[[], Mapping[str, float]]) -> None:
        self.step, self.quantity, self._summarize = step, quantity, summarize

    @cached_property
    def summary(self) -> dict[str, float]:
        """A few numbers by name; on a GPU they are waited for when they are first read."""
        found = dict(self._summarize())
        self._summarize = dict  # and what they were made of is let go
        return found

    def __repr__(self) -> str:
        numbers = ", ".join(f"{name}={value:.4g}" for name, value in self.summary.items())
        return f"step {self.step}, {self.quantity}: {numbers}"


class History(list[SeenRecord]):
    """Records in the order of the steps."""

    @property
    def rows(self) -> list[dict[str, Any]]:
        """One dict for each number: step, quantity, summary (the name of the number) and value."""
        return [
            {"step": one.step, "quantity": one.quantity, "summary": name, "value": value}
            for one in self
            for name, value in one.summary.items()
        ]

    @property
    def frame(self) -> Any:
        """The rows as a pandas DataFrame."""
        import pandas

        return pandas.DataFrame(self.rows, columns=["step", "quantity", "summary", "value"])
