"""Tables in the columns that fit: whole cells, the least important columns left out, no blanks at the end of a line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from gradkernels.bench.report.terminal.styles import TITLE_STYLE

GAP = 2

TextRows = Sequence[Sequence[Text]]
"""The cells of a table, row by row."""


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        header: What stands above it, in one or more lines.
        left: Whether its cells stand at the left.
        rank: 0 for what is always there; of the others the lower ones are kept first where room is short. Those of
            one rank are kept or left out together.
    """

    header: str
    left: bool = False
    rank: int = 0

    @property
    def title(self) -> str:
        """The header in one line."""
        return self.header.replace("\n", " ")


def fitting(columns: Sequence[Column], rows: TextRows, width: int | None) -> list[int]:
    """Return the positions of the columns that fit, in order.

    Args:
        columns: Of the table.
        rows: Its cells.
        width: In columns of the terminal; None for any.
    """
    kept: list[int] = []
    for rank in sorted({column.rank for column in columns}):
        more = sorted([*kept, *(place for place, column in enumerate(columns) if column.rank == rank)])
        if width is None or rank == 0 or total(columns, rows, more) <= width:
            kept = more
    return kept


def total(columns: Sequence[Column], rows: TextRows, kept: Sequence[int]) -> int:
    """Return how wide a table is.

    Args:
        columns: Of the table.
        rows: Its cells.
        kept: Positions of the columns that are shown.
    """
    return sum(_width(columns, rows, place) for place in kept) + GAP * (len(kept) - 1)


def _width(columns: Sequence[Column], rows: TextRows, place: int) -> int:
    header = max(map(cell_len, columns[place].header.split("\n")))
    return max([header, *(row[place].cell_len for row in rows)])


def lines(columns: Sequence[Column], rows: TextRows, kept: Sequence[int]) -> list[Text]:
    """Return header and rows, aligned.

    Args:
        columns: Of the table.
        rows: Its cells.
        kept: Positions of the columns that are shown.
    """
    widths = {place: _width(columns, rows, place) for place in kept}
    headers = [columns[place].header.split("\n") for place in range(len(columns))]
    height = max(len(headers[place]) for place in kept)
    above = [[""] * (height - len(header)) + header for header in headers]
    titles = [[Text(header[line], TITLE_STYLE) for header in above] for line in range(height)]
    return [_line([(columns[place].left, row[place], widths[place]) for place in kept]) for row in (*titles, *rows)]


def _line(cells: Sequence[tuple[bool, Text, int]]) -> Text:
    line = Text()
    for place, (left, cell, width) in enumerate(cells):
        blanks = " " * (width - cell.cell_len)
        line.append(" " * GAP * bool(place))
        line.append_text(Text.assemble(cell, blanks) if left else Text.assemble(blanks, cell))
    line.rstrip()
    return line


def shared(columns: Sequence[Column], tables: Sequence[TextRows], width: int | None) -> list[int]:
    """Return the positions of the columns that fit in each of several tables, which look alike then.

    Args:
        columns: Of all tables.
        tables: The cells of each.
        width: In columns of the terminal; None for any.
    """
    found = [fitting(columns, rows, width) for rows in tables]
    return [place for place in range(len(columns)) if all(place in kept for kept in found)]


def left_out(columns: Sequence[Column], kept: Sequence[int]) -> list[str]:
    """Return the headers of the columns that are not shown, in one line each."""
    return [column.title for place, column in enumerate(columns) if place not in kept]


def print_columns(
    console: Console, columns: Sequence[Column], rows: TextRows, kept: Sequence[int], width: int | None
) -> None:
    """Print a table; in panels where what may not be left out does not fit.

    Args:
        console: Where to.
        columns: Of the table.
        rows: Its cells.
        kept: Positions of the columns that are shown.
        width: In columns of the terminal; None for whole lines, however wide.
    """
    if width is not None and total(columns, rows, kept) > width:
        print_panels(console, [columns[place] for place in kept], [[row[place] for place in kept] for row in rows])
        return
    for line in lines(columns, rows, kept):
        console.print(line)


def print_panels(console: Console, columns: Sequence[Column], rows: TextRows) -> None:
    """Print a table of which nothing may be left out, in panels that all begin with its first column.

    Args:
        console: Where to; it has the width.
        columns: Of the table.
        rows: Its cells.
    """
    panels = [[0]]
    for place in range(1, len(columns)):
        if len(panels[-1]) > 1 and total(columns, rows, [*panels[-1], place]) > console.width:
            panels.append([0])
        panels[-1].append(place)
    for number, panel in enumerate(panels):
        for line in lines(columns, rows, panel):
            console.print(line)
        if number < len(panels) - 1:
            console.print()


def markdown_table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown, with all of its columns.

    Args:
        columns: Of the table.
        rows: Its cells, as they stand; a bar in them is escaped.
    """
    rule = ["---" if column.left else "--:" for column in columns]
    escaped = ([cell.replace("|", "\\|") for cell in row] for row in rows)
    return "\n".join("| " + " | ".join(row) + " |" for row in ([column.title for column in columns], rule, *escaped))
