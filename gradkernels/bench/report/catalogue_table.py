"""The catalogue as tables: for a terminal, as Markdown, CSV and JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, field, fields, replace
from itertools import groupby
from string import ascii_letters

from rich.console import Console
from rich.text import Text

from gradkernels.bench.report.catalogue import CatalogueRow
from gradkernels.bench.report.terminal.columns import Column, left_out, print_columns, shared, total
from gradkernels.bench.report.terminal.consoles import say
from gradkernels.bench.report.terminal.styles import TITLE_STYLE
from gradkernels.quantity import QUANTITIES
from gradkernels.record import line

LEGEND = {
    "x": "written by hand",
    "+": "composed: per-sample gradients, then the quantity's definition",
    "x (1)": "not for every problem of the table, see the number below",
    "out=": "what is written straight into the caller's memory",
}
_CELLS = {"by hand": "x", "composed": "+"}
_BRACKETS = str.maketrans("", "", "() ")


@dataclass
class Reasons:
    """Why there are holes: each reason once, in the order in which they were met, with the ways that it is about.

    Attributes:
        ways: By reason, and for each way the problems of its kind that it cannot do; none of them means all.
    """

    ways: dict[str, dict[str, tuple[str, ...]]] = field(default_factory=dict)

    def number(self, entry: CatalogueRow, problems: Sequence[str] = ()) -> str:
        """Return the number in brackets that stands for the reason of a hole.

        Args:
            entry: The hole.
            problems: The problems that have it, where others of the same kind have not.
        """
        own = self.ways.setdefault(_general(entry), {})
        own[entry.way] = tuple(dict.fromkeys((*own.get(entry.way, ()), *problems)))
        return f"({list(self.ways).index(_general(entry)) + 1})"

    def lines(self) -> list[tuple[str, str, str]]:
        """Return number, reason and ways of each."""
        return [
            (f"({place})", reason, ", ".join(_told(way, problems) for way, problems in ways.items()))
            for place, (reason, ways) in enumerate(self.ways.items(), 1)
        ]


def _general(entry: CatalogueRow) -> str:
    """Return a reason without the names of the way and of the problem, so that it is one for many of them."""
    reason = re.sub(r", not for \w+", "", entry.reason.replace(f"{entry.way} ", ""))
    named = entry.problem.partition("(")[0] + "regression"
    return re.sub(rf"\b{re.escape(named)}\b", "the problem", reason, flags=re.IGNORECASE)


def _told(way: str, problems: Sequence[str]) -> str:
    return f"{way} (not {', '.join(problems)})" if problems else way


@dataclass(frozen=True)
class Grid:
    """What the ways can do for the problems of one kind.

    Attributes:
        title: The problems.
        header: `way`, the quantities, `out=` and `settings`.
        rows: A row for each way that can do anything for one of them.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def grids(entries: Sequence[CatalogueRow], kinds: Iterable[Sequence[str]]) -> tuple[list[Grid], Reasons]:
    """Return a grid for each kind of problem, and the reasons that the numbers in them stand for.

    Args:
        entries: The catalogue.
        kinds: Names of problems, those of one kind together.
    """
    reasons = Reasons()
    quantities = [name for name in QUANTITIES if any(entry.quantity == name for entry in entries)]
    ways = {way: place for place, way in enumerate(dict.fromkeys(entry.way for entry in entries))}
    found = []
    for names in kinds:
        own = sorted((entry for entry in entries if entry.problem in names), key=lambda entry: ways[entry.way])
        rows = []
        for way, some in groupby(own, key=lambda entry: entry.way):
            theirs = list(some)
            if any(not entry.reason for entry in theirs):
                rows.append(tuple(_row(way, theirs, quantities, reasons)))
            else:  # what it cannot do of these problems, not which quantities it has for others
                for entry in [entry for entry in theirs if entry.kernel] or theirs:
                    reasons.number(entry)
        found.append(Grid(", ".join(names), ("way", *quantities, "out=", "settings"), tuple(rows)))
    return found, reasons


def _row(way: str, own: Sequence[CatalogueRow], quantities: Sequence[str], reasons: Reasons) -> list[str]:
    cells = [_cell([entry for entry in own if entry.quantity == name], reasons) for name in quantities]
    direct = ", ".join(dict.fromkeys(entry.quantity for entry in own if entry.out))
    return [way, *cells, direct, next((entry.settings for entry in own if entry.settings), "")]


def _cell(same: Sequence[CatalogueRow], reasons: Reasons) -> str:
    """Return what a way has of a quantity for the problems of a kind: `x`, `+ (2)`, `(1)`, or nothing if not asked."""
    holes = [entry for entry in same if entry.reason]
    there = next((_CELLS[entry.how] for entry in same if not entry.reason), "")
    some = len(holes) < len(same)
    numbers = dict.fromkeys(
        reasons.number(entry, [one.problem for one in holes if _general(one) == _general(entry)] if some else ())
        for entry in holes
    )
    return " ".join(filter(None, (there, "".join(numbers))))


def show_catalogue(
    console: Console, entries: Sequence[CatalogueRow], kinds: Iterable[Sequence[str]], wide: bool
) -> None:
    """Print a table for each kind of problem, then what is in the cells.

    Args:
        console: Where to.
        entries: The catalogue.
        kinds: Names of problems, those of one kind together.
        wide: Whether to print all columns, however wide the tables get.
    """
    found, reasons = grids(entries, kinds)
    width = None if wide else console.width
    letters = {} if width is None or _fits(found, width) else _letters(found[0])
    shown = [_lettered(grid, letters) for grid in found] if letters else found
    columns, tables = _columns(shown[0]), [_texts(grid) for grid in shown]
    kept = shared(columns, tables, width)
    for grid, rows in zip(shown, tables, strict=True):
        say(console, grid.title, TITLE_STYLE)
        print_columns(console, columns, rows, kept, width)
        console.print()
    missing = left_out(columns, kept)
    written = _compact if letters else str
    if letters:
        say(console, ", ".join(f"{letter} {name}" for name, letter in letters.items()))
    for sign, says in _legend(found, missing).items():
        say(console, f"{written(sign):<5}  {says}", hanging=" " * 7)
    for number, reason, ways in reasons.lines():
        say(console, f"{written(number):<5}  {reason}", hanging=" " * 7)
        say(console, f"{'':7}{ways}", hanging=" " * 7)
    if missing:
        say(console, f"with --wide also: {', '.join(missing)}")


def _columns(grid: Grid) -> list[Column]:
    return [Column(name, True, {"settings": 1, "out=": 2}.get(name, 0)) for name in grid.header]


def _texts(grid: Grid) -> list[list[Text]]:
    return [[Text(cell) for cell in row] for row in grid.rows]


def _fits(found: Sequence[Grid], width: int) -> bool:
    """Tell whether the ways and their quantities fit into lines of a width."""
    needed = range(len(found[0].header) - 2)
    return all(total(_columns(grid), _texts(grid), needed) <= width for grid in found)


def _letters(grid: Grid) -> dict[str, str]:
    """Return a letter for each quantity, which stands above its column where the names are too wide."""
    return dict(zip(grid.header[1:-2], ascii_letters, strict=False))


def _lettered(grid: Grid, letters: Mapping[str, str]) -> Grid:
    """Return a grid as narrow as it can be: letters for the quantities, and numbers without brackets."""
    header = tuple(letters.get(name, name) for name in grid.header)
    rows = tuple((row[0], *map(_compact, row[1:-2]), *row[-2:]) for row in grid.rows)
    return replace(grid, header=header, rows=rows)


def _compact(cell: str) -> str:
    """Return `x1,2` for `x (1)(2)`."""
    return cell.replace(")(", ",").translate(_BRACKETS)


def _legend(found: Sequence[Grid], missing: Sequence[str] = ()) -> dict[str, str]:
    """Return what stands in the cells and what it means, as far as it is there."""
    cells = {cell for grid in found for row in grid.rows for cell in row[1:-2]}
    there = {sign for cell in cells for sign in (cell[:1], "x (1)" if cell[1:] and cell[0] != "(" else "")}
    return {sign: says for sign, says in LEGEND.items() if sign in there or (sign == "out=" and sign not in missing)}


def markdown(entries: Sequence[CatalogueRow], kinds: Iterable[Sequence[str]]) -> str:
    """Return the tables in Markdown, then what is in the cells.

    Args:
        entries: The catalogue.
        kinds: Names of problems, those of one kind together.
    """
    found, reasons = grids(entries, kinds)
    parts = []
    for grid in found:
        rule = ("---", *[":-:"] * (len(grid.header) - 3), "---", "---")
        rows = ("| " + " | ".join(row) + " |" for row in (grid.header, rule, *grid.rows))
        parts.append("\n".join([f"**{grid.title}**", "", *rows]))
    legend = [f"- `{sign}` {says}" for sign, says in _legend(found).items()]
    legend += [f"- `{number}` {reason}: {ways}" for number, reason, ways in reasons.lines()]
    return "\n\n".join([*parts, "\n".join(legend)]) + "\n"


def as_csv(entries: Iterable[CatalogueRow]) -> str:
    """Return CSV with a row per problem, way and quantity."""
    return line(one.name for one in fields(CatalogueRow)) + "".join(line(astuple(entry)) for entry in entries)


def as_json(entries: Iterable[CatalogueRow]) -> str:
    """Return a JSON list with an object per problem, way and quantity."""
    return json.dumps([asdict(entry) for entry in entries], indent=1) + "\n"
