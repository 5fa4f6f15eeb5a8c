"""The catalogue as tables: for a terminal, as Markdown, CSV and JSON."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, astuple, fields
from itertools import groupby

from rich import box
from rich.table import Table
from rich.text import Text

from gradkernels.bench.report.catalogue import CatalogueRow
from gradkernels.quantity import QUANTITIES
from gradkernels.record import line

LEGEND = {
    "x": "written by hand",
    "+": "composed: per-sample gradients, then the quantity's definition",
    "out=": "what is written straight into the caller's memory",
}
_CELLS = {"by hand": "x", "composed": "+"}


def by_problem(entries: Iterable[CatalogueRow]) -> list[tuple[str, list[CatalogueRow]]]:
    """Group entries by problem."""
    return [(name, list(group)) for name, group in groupby(entries, key=lambda entry: entry.problem)]


def reasons(entries: Iterable[CatalogueRow]) -> dict[str, str]:
    """Return every reason for a hole, with the number in brackets that stands for it."""
    distinct = dict.fromkeys(entry.reason for entry in entries if entry.reason)
    return {reason: f"({number})" for number, reason in enumerate(distinct, 1)}


def grid(entries: Sequence[CatalogueRow], numbers: dict[str, str]) -> list[list[str]]:
    """Return header and a row per way for the entries of one problem."""
    quantities = [name for name in QUANTITIES if any(entry.quantity == name for entry in entries)]
    rows = []
    for name, own in groupby(entries, key=lambda entry: entry.way):
        cells = {entry.quantity: entry for entry in own}
        rows.append([name, *(_cell(cells.get(quantity), numbers) for quantity in quantities), *_facts(cells.values())])
    return [["way", *quantities, "out=", "settings"], *rows]


def _cell(entry: CatalogueRow | None, numbers: dict[str, str]) -> str:
    return "" if entry is None else numbers.get(entry.reason) or _CELLS[entry.how]


def _facts(own: Collection[CatalogueRow]) -> list[str]:
    direct = ", ".join(entry.quantity for entry in own if entry.out)
    return [direct, next((entry.settings for entry in own if entry.settings), "")]


def terminal(name: str, entries: Sequence[CatalogueRow], numbers: dict[str, str]) -> Table:
    """Return the ways of one problem as a table for a terminal.

    Args:
        name: Of the problem.
        entries: Of the problem.
        numbers: What stands for each reason, from `reasons`.
    """
    header, *rows = grid(entries, numbers)
    shown = Table(title=name, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for position, column in enumerate(header):
        shown.add_column(column, justify="center" if 0 < position < len(header) - 2 else "left")
    for row in rows:
        # Text, because settings in brackets would be read as markup.
        shown.add_row(*map(Text, row))
    return shown


def notes(numbers: dict[str, str]) -> list[tuple[str, str]]:
    """Return what is in the cells, and what it means."""
    return [*LEGEND.items(), *((number, reason) for reason, number in numbers.items())]


def markdown(entries: Sequence[CatalogueRow]) -> str:
    """Return every problem's table in Markdown, then what the cells mean."""
    numbers = reasons(entries)
    parts = []
    for name, own in by_problem(entries):
        header, *rows = grid(own, numbers)
        rule = ["---", *[":-:"] * (len(header) - 3), "---", "---"]
        parts.append("\n".join([f"**{name}**", "", *("| " + " | ".join(row) + " |" for row in (header, rule, *rows))]))
    return "\n\n".join([*parts, "\n".join(f"- `{sign}` {says}" for sign, says in notes(numbers))]) + "\n"


def as_csv(entries: Iterable[CatalogueRow]) -> str:
    """Return CSV with a row per problem, way and quantity."""
    return line(field.name for field in fields(CatalogueRow)) + "".join(line(astuple(entry)) for entry in entries)


def as_json(entries: Iterable[CatalogueRow]) -> str:
    """Return a JSON list with an object per problem, way and quantity."""
    return json.dumps([asdict(entry) for entry in entries], indent=1) + "\n"
