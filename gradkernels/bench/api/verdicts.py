"""Verdicts between two sets of results, as Python sees them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from html import escape
from typing import TYPE_CHECKING

from gradkernels.bench.compare.compare import compare as compare_records
from gradkernels.bench.compare.comparison import ROW_COLUMNS, Comparison
from gradkernels.bench.compare.thresholds import DEFAULT_THRESHOLDS
from gradkernels.bench.report.comparison_table import table
from gradkernels.bench.report.comparison_text import summary_sentences
from gradkernels.bench.report.terminal.consoles import plain_width
from gradkernels.record import Record

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True, repr=False)
class Verdicts:
    """Whether each kernel is slower, faster or the same on each case; prints as `gradkernels compare` does.

    Attributes:
        comparison: All that is known of it.
    """

    comparison: Comparison

    @cached_property
    def frame(self) -> DataFrame:
        """One row for each kernel and case of either side."""
        import pandas as pd

        return pd.DataFrame([row.columns() for row in self.comparison.rows], columns=[*ROW_COLUMNS])

    @cached_property
    def over_machines(self) -> DataFrame:
        """One row for each kernel and case that several machines have on both sides: the mean of their ratios."""
        import pandas as pd

        return pd.DataFrame([row.columns() for row in self.comparison.over_machines], columns=[*ROW_COLUMNS])

    @property
    def counts(self) -> dict[str, int]:
        """How many rows have each verdict."""
        return dict(self.comparison.counts)

    def __str__(self) -> str:
        """Return the table and the sentences below it."""
        return "\n".join([table(self.comparison, plain_width()), *summary_sentences(self.comparison)])

    def __repr__(self) -> str:
        """Return how many rows have each verdict in one line."""
        return f"Verdicts({', '.join(f'{count} {verdict}' for verdict, count in self.counts.items() if count)})"

    def _repr_html_(self) -> str:
        shown = self.frame[self.frame["verdict"] != ""]
        columns = ["kernel", "problem", "quantity", "n", "seconds_before", "seconds_after", "ratio", "low", "high"]
        sentences = "".join(f"<p>{escape(sentence)}</p>" for sentence in summary_sentences(self.comparison))
        return shown[[*columns, "verdict"]].to_html(index=False) + sentences


def verdicts_between(
    before: Sequence[Record], after: Sequence[Record], delta: float | None = None, force: bool = False
) -> Verdicts:
    """Compare records.

    Args:
        before: Of the one side.
        after: Of the other.
        delta: Fraction that a change must exceed to count; the usual one if None.
        force: Compare across machines, dtypes, layouts, devices or threads if nothing else matches.

    Raises:
        ValueError: The two have nothing in common that may be compared, or `delta` is no fraction.
    """
    if delta is not None and not 0 <= delta < 1:
        raise ValueError(f"delta is {delta!r}; it must be a fraction, for instance 0.01 for 1%")
    thresholds = DEFAULT_THRESHOLDS if delta is None else replace(DEFAULT_THRESHOLDS, delta=delta)
    return Verdicts(compare_records(before, after, thresholds, force))
