"""A comparison as a table for the terminal, as Markdown, as CSV and as JSON."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import Any

from gradkernels.bench.compare.comparison import ROW_COLUMNS, Comparison, Row
from gradkernels.bench.report.comparison_caveats import percent
from gradkernels.bench.report.comparison_text import summary
from gradkernels.bench.stats.estimates import Ratio
from gradkernels.bench.stats.verdict import CONTAMINATED
from gradkernels.record import line

_UNITS = (("s", 1.0), ("ms", 1e-3), ("us", 1e-6), ("ns", 1e-9))
_WIDE = 1000
_COLORS = {"slower": "red", "faster": "green", "undecided": "yellow", CONTAMINATED: "magenta"}


def seconds(value: float | None) -> str:
    """Return a time in the unit that a person would choose, four digits: `12.34 us`."""
    if value is None:
        return ""
    unit, size = next((unit for unit in _UNITS if value >= unit[1]), _UNITS[-1])
    return f"{value / size:.4g} {unit}"


def table(comparison: Comparison) -> str:
    """Return the rows that were compared, aligned, and in color on a terminal that has it."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    header, *lines = _grid(comparison)
    grid = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for position, name in enumerate(header):
        # Text, because what stands in brackets would be read as markup.
        grid.add_column(Text(name), justify="right" if position else "left")
    for cells in lines:
        grid.add_row(*(Text(cell, style=_COLORS.get(cell, "")) for cell in cells))
    # Never folded: a narrow terminal or a pipe gets whole lines, without the blanks that fill up a table.
    console = Console(width=_WIDE)
    with console.capture() as captured:
        console.print(grid)
    return "".join(line.rstrip() + "\n" for line in captured.get().splitlines())


def markdown(comparison: Comparison) -> str:
    """Return the rows that were compared and the summary in Markdown."""
    header, *lines = _grid(comparison)
    rule = ["---", *["--:"] * (len(header) - 1)]
    rows = ["| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |" for cells in (header, rule, *lines)]
    return "\n".join([*rows, "", *(f"- {sentence}" for sentence in summary(comparison)), ""])


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
        "canaries": [asdict(canary) | {"change": _plain(canary.change)} for canary in comparison.canaries],
        "counts": comparison.counts,
        "geometric_mean": _plain(comparison.mean) if comparison.mean else None,
        "summary": summary(comparison),
        "rows": [_plain(row) for row in comparison.rows],
    }
    return json.dumps(whole, indent=2, allow_nan=False) + "\n"


def _plain(value: Row | Ratio) -> dict[str, Any]:
    values = value.columns() if isinstance(value, Row) else asdict(value)
    return {name: _finite(item) for name, item in values.items()}


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _grid(comparison: Comparison) -> list[list[str]]:
    """Return header and cells of the rows that were compared."""
    rows, told_apart = comparison.compared, comparison.varying
    header = ["kernel", *told_apart, "n", "before", "after", "ratio [low, high]", "verdict", "detects", "needs"]
    return [header, *([row.kernel, *(str(row.columns()[name]) for name in told_apart), *_cells(row)] for row in rows)]


def _cells(row: Row) -> list[str]:
    interval = f"{row.ratio:.3f} [{row.low:.3f}, {row.high:.3f}]"
    cells = [str(row.case.n), seconds(row.seconds_before), seconds(row.seconds_after), interval, row.verdict]
    if row.verdict != "undecided":
        return [*cells, "", ""]
    needed = "not known" if row.passes_needed is None else str(row.passes_needed)
    return [*cells, percent(row.smallest_effect), needed]
