"""Tables for a terminal of any width: no cell is cut or folded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from rich.console import Console
from rich.table import Column, Table

_UNBOUNDED = 10_000


def print_whole(console: Console, table: Table) -> None:
    """Print a table, on a terminal that is too narrow for it in panels that all begin with its first column.

    Args:
        console: Where to. One that is no terminal gets each row in one line, however long.
        table: Its columns keep their widths.
    """
    if table.title:
        console.print(table.title, style=table.title_style or "table.title", markup=False, highlight=False)
    for columns in _panels(console, table):
        panel = _with_columns(table, columns)
        panel.width = _natural_width(console, panel)
        console.print(panel, soft_wrap=True)


def _panels(console: Console, table: Table) -> Iterator[Sequence[Column]]:
    key, *rest = table.columns
    room = console.width if console.is_terminal else _UNBOUNDED
    panel = [key]
    for column in rest:
        if len(panel) > 1 and _natural_width(console, _with_columns(table, [*panel, column])) > room:
            yield panel
            panel = [key]
        panel.append(column)
    yield panel


def _with_columns(table: Table, columns: Sequence[Column]) -> Table:
    bare = (replace(column, no_wrap=True, _cells=[]) for column in columns)
    panel = Table(*bare, box=table.box, padding=table.padding, pad_edge=table.pad_edge)
    for cells in zip(*(column.cells for column in columns), strict=True):
        panel.add_row(*cells)
    return panel


def _natural_width(console: Console, table: Table) -> int:
    return console.measure(table, options=console.options.update(width=_UNBOUNDED)).maximum
