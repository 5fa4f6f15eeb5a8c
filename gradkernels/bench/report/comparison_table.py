"""A comparison as a table for the terminal, as Markdown, as CSV and as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import groupby
from typing import Any

from rich.text import Text

from gradkernels.bench.compare.comparison import ROW_COLUMNS, Comparison, Row
from gradkernels.bench.report.comparison_text import summary_sentences
from gradkernels.bench.report.ranking_table import case_title
from gradkernels.bench.report.terminal.columns import Column, left_out, lines, markdown_table, shared
from gradkernels.bench.report.terminal.styles import TITLE_STYLE, VERDICT_STYLES
from gradkernels.bench.report.units import confidence, percent, seconds
from gradkernels.bench.stats.estimates import Ratio
from gradkernels.coordinates import ALL_SIZES
from gradkernels.key import OUT, Key
from gradkernels.record import line

_MOST = 1000
_RATIO = 4
"""Position of the ratios among the columns."""

_INDENT = Text("")


def table(comparison: Comparison, width: int | None = None) -> str:
    """Return the rows that were compared as text, a table for all that differ in kernel and n alone.

    Args:
        comparison: Of two sides.
        width: Of the table, in columns; None for all columns, however wide.
    """
    shown, _ = styled_table(comparison, width)
    return "".join(f"{text.plain}\n" for text in shown)


def styled_table(comparison: Comparison, width: int | None) -> tuple[list[Text], list[str]]:
    """Return the lines of `table`, verdicts in color, and the headers of the columns that were left out.

    Args:
        comparison: Of two sides.
        width: In columns of the terminal; None for any.
    """
    columns = _columns(comparison.compared)
    groups = [(title, [_styled(row) for row in rows]) for title, rows in _groups(comparison)]
    kept = shared(columns, [cells for _, cells in groups], width)
    above = _RATIO not in kept
    if above:
        narrow = [[[_INDENT, *row[1:]] for row in cells] for _, cells in groups]
        columns = [Column("", left=True), *columns[1:]]
        kept = shared(columns, narrow, width)
    text: list[Text] = []
    for title, cells in groups:
        own = _below_names(columns, cells, kept) if above else lines(columns, cells, kept)
        text += [*([Text()] if text else []), Text(title, TITLE_STYLE), *own]
    return text, left_out(columns, kept)


def _below_names(columns: Sequence[Column], cells: Sequence[Sequence[Text]], kept: Sequence[int]) -> list[Text]:
    """Return header and rows where names leave no room for ratios: the kernel above its rows, on a line of its own.

    Args:
        columns: Of the table, the first one empty.
        cells: Of its rows, the first one the kernel.
        kept: Positions of the columns that are shown.
    """
    shown = lines(columns, [[_INDENT, *row[1:]] for row in cells], kept)
    header = len(shown) - len(cells)
    text, named = shown[:header], ""
    for row, own in zip(cells, shown[header:], strict=True):
        text += [Text(row[0].plain)] if row[0].plain != named else []
        text.append(own)
        named = row[0].plain
    return text


def _styled(row: Row) -> list[Text]:
    return [Text(cell, VERDICT_STYLES.get(cell, "")) for cell in (_short(row.kernel), *_cells(row))]


def _columns(rows: Sequence[Row]) -> list[Column]:
    """Return the columns; where room is short, what only undecided rows have is left out first, the ratio last."""
    names = [Column("kernel", left=True), Column("n")]
    times = [Column("before", rank=2), Column("after", rank=2), Column(_ratio(rows, "\n"), rank=1)]
    return [*names, *times, Column("verdict", left=True), Column("detects", rank=3), Column("needs", rank=4)]


def _ratio(rows: Sequence[Row], between: str = " ") -> str:
    """Return the header of the ratios: what they are of, and the level of their intervals."""
    of = "ratio (of control)" if rows and all(row.normalised for row in rows) else "ratio"
    level = confidence({min(row.passes_before, row.passes_after) for row in rows})
    return f"{of}{between}[{level} interval]"


def _groups(comparison: Comparison) -> Iterator[tuple[str, list[Row]]]:
    where = ", on {}" if "machine" in comparison.varying else ""
    for rows, on in ((comparison.compared, where), (comparison.over_machines, ", over {}")):
        ordered = sorted(rows, key=lambda row: (row.case.at(ALL_SIZES), row.machine, row.kernel, row.case.n))
        for (case, machine), own in groupby(ordered, key=lambda row: (row.case.at(ALL_SIZES), row.machine)):
            yield case_title(case) + on.format(machine), list(own)


def _short(kernel: str) -> str:
    """Return a kernel without its quantity, which the title has."""
    key = Key.parse(kernel)
    return key.way + OUT * key.out


def markdown(comparison: Comparison) -> str:
    """Return the rows that were compared and the summary in Markdown."""
    header, *rows = _grid(comparison)
    columns = [Column(name, left=name == "kernel") for name in header]
    return "\n".join(
        [markdown_table(columns, rows), "", *(f"- {sentence}" for sentence in summary_sentences(comparison)), ""]
    )


def as_csv(comparison: Comparison) -> str:
    """Return every row of either file as CSV; what is not known is empty."""
    header = line(ROW_COLUMNS)
    return header + "".join(line(map(_finite, row.columns().values())) for row in comparison.rows)


def as_json(comparison: Comparison) -> str:
    """Return everything the comparison knows as JSON; what is not known is null."""
    whole = {
        "before": asdict(comparison.before),
        "after": asdict(comparison.after),
        "delta": comparison.delta,
        "ignored": comparison.ignored,
        "contaminated": bool(comparison.flagged),
        "with_itself": comparison.with_itself,
        "canaries": [asdict(canary) | {"change": _plain(canary.change)} for canary in comparison.canaries],
        "counts": comparison.counts,
        "geometric_mean": _plain(comparison.mean) if comparison.mean else None,
        "summary": summary_sentences(comparison),
        "rows": [_plain(row) for row in comparison.rows],
        "over_machines": [_plain(row) for row in comparison.over_machines],
    }
    return json.dumps(whole, indent=2, allow_nan=False) + "\n"


def _plain(value: Row | Ratio) -> dict[str, Any]:
    values = value.columns() if isinstance(value, Row) else asdict(value)
    return {name: _finite(item) for name, item in values.items()}


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _grid(comparison: Comparison) -> list[list[str]]:
    """Return header and cells of the rows that were compared."""
    rows, told_apart = (*comparison.compared, *comparison.over_machines), comparison.varying
    header = ["kernel", *told_apart, "n", "before", "after", _ratio(rows), "verdict", "detects", "needs"]
    return [header, *([row.kernel, *(str(row.columns()[name]) for name in told_apart), *_cells(row)] for row in rows)]


def _cells(row: Row) -> list[str]:
    cells = [f"{row.case.n:,}", seconds(row.seconds_before), seconds(row.seconds_after), _interval(row), row.verdict]
    if row.verdict != "undecided":
        return [*cells, "", ""]
    needed = "not known" if row.passes_needed is None else str(row.passes_needed)
    return [*cells, percent(row.smallest_effect), needed]


def _interval(row: Row) -> str:
    ratio, low, high = (
        f"{value:.3f}" if value is not None and value < _MOST else f">{_MOST}"
        for value in (row.ratio, row.low, row.high)
    )
    return f"{ratio} [{low}, {high}]"
