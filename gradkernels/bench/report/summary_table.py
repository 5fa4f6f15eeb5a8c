"""The summary of results files as a table: a row for each case and kernel, its interval over passes beside its time."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from gradkernels.bench.compare.summary import KernelSummary
from gradkernels.bench.report.ranking_table import case_title
from gradkernels.bench.report.terminal.columns import Column, markdown_table
from gradkernels.bench.report.units import seconds
from gradkernels.record import CASE, DERIVED, line

SUMMARY_COLUMNS = (
    *("machine", *CASE, "kernel", *DERIVED),
    *("passes", "status", "seconds", "low", "high", "seconds_first", "of_limit", "reason"),
)
"""What CSV and JSON have of each case and kernel; times in seconds per call."""

SHOWN = (
    *(Column("n"), Column("kernel", left=True), Column("time"), Column("95% interval", rank=2)),
    *(Column("passes", rank=3), Column("status", left=True, rank=1)),
)


def shown_groups(rows: Sequence[KernelSummary]) -> Iterator[tuple[str, list[KernelSummary]]]:
    """Yield titles, and the rows of kernels and conversions below each; the yardsticks are in CSV and JSON only."""
    several = len({row.machine for row in rows}) > 1
    found: dict[str, list[KernelSummary]] = {}
    for row in rows:
        if row.columns()["role"] in ("kernel", "conversion"):
            title = f"{case_title(row.case)}, on {row.machine}" if several else case_title(row.case)
            found.setdefault(title, []).append(row)
    yield from found.items()


def summary_cells(row: KernelSummary) -> list[str]:
    """Return one row of the table."""
    own = row.columns()
    name = f"{own['way']}@out" if own["out"] else str(own["way"])
    interval = "" if row.low is None else f"{seconds(row.low)} to {seconds(row.high)}"
    return [f"{row.case.n:,}", name, seconds(row.seconds), interval, str(row.passes), row.status]


def summary_markdown(rows: Sequence[KernelSummary]) -> str:
    """Return the tables in Markdown."""
    parts = (f"**{name}**\n\n{markdown_table(SHOWN, [*map(summary_cells, own)])}" for name, own in shown_groups(rows))
    return "\n\n".join(parts) + "\n"


def summary_csv(rows: Sequence[KernelSummary]) -> str:
    """Return every row as CSV; what is not known is empty."""
    return line(SUMMARY_COLUMNS) + "".join(line(_values(row)) for row in rows)


def summary_json(rows: Sequence[KernelSummary]) -> str:
    """Return every row as a JSON list of objects; what is not known is null."""
    return json.dumps([dict(zip(SUMMARY_COLUMNS, _values(row), strict=True)) for row in rows], indent=1) + "\n"


def _values(row: KernelSummary) -> list[object]:
    own = row.columns()
    return [own[name] for name in SUMMARY_COLUMNS]
