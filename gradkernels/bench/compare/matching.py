"""Which rows of two sides are measurements of the same thing, and what they are divided by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gradkernels.bench.compare.places import (
    MEANS,
    Place,
    part_of,
    place_at,
    places,
    require_once,
    require_one_place,
    values_of,
)
from gradkernels.bench.results.reader import read_results
from gradkernels.bench.results.table import STATUSES, ResultsTable, groups
from gradkernels.bench.stats.estimates import Ints
from gradkernels.coordinates import Coordinates
from gradkernels.key import Key, matching, split_patterns
from gradkernels.names import unknown
from gradkernels.record import CASE, Status

KEY = ("machine", *CASE, "kernel")

# Worst first, but one timed and proven pass outweighs passes that were cut short.
_RANK = (Status.wrong, Status.failed, Status.ok, Status.timeout, Status.unsupported)
_RANKS = np.array([_RANK.index(status) for status in STATUSES])
_SHOWN = 4

SideTables = tuple[ResultsTable, ResultsTable]


@dataclass(frozen=True)
class KernelRows:
    """The rows of one kernel and case on one side, perhaps none.

    Attributes:
        side: Every row of the side.
        rows: Which of them these are.
    """

    side: ResultsTable
    rows: Ints

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def timed(self) -> Ints:
        """Those that have a time."""
        return self.rows[self.side.timed[self.rows]]

    @property
    def status(self) -> str:
        """What several passes come to: wrong or failed if any is, else ok if any is; empty without passes."""
        return _RANK[_RANKS[self.side.status[self.rows]].min()] if len(self) else ""

    @property
    def reason(self) -> str:
        """Why the status is not ok, as the first row with that status gives it."""
        if not len(self):
            return ""
        worst = self.rows[np.argmin(_RANKS[self.side.status[self.rows]])]
        return self.side.reasons[self.side.reason[worst]]


@dataclass(frozen=True)
class Pair:
    """The rows of one kernel and case on both sides, of which one may be empty.

    Attributes:
        before: On the first side.
        after: On the second.
        machine, case, kernel: Where, on what and which; as the second side says it, if it has rows.
    """

    before: KernelRows
    after: KernelRows
    machine: str
    case: Coordinates
    kernel: str


class Pairing(NamedTuple):
    """What two sides have in common.

    Attributes:
        pairs: Every kernel and case of either side, in order of case and kernel.
        ignored: Coordinates that differ and were ignored because the comparison was forced.
        nothing: Why no row of one has a counterpart in the other; empty if one has.
    """

    pairs: list[Pair]
    ignored: tuple[str, ...]
    nothing: str


def pooled(files: Sequence[Path]) -> tuple[ResultsTable, str]:
    """Read the rows of several files as the passes of one side, and return what to call them as well."""
    # A file's name may hold bytes that are no text, and must still be printed.
    name = " + ".join(map(str, files)).encode(errors="backslashreplace").decode()
    table = read_results(files)
    return replace(table, numbers={"seconds_median": table.seconds}), name  # the others' memory is free from here on


def select(
    sides: Sequence[ResultsTable], kernels: Sequence[str] = (), quantity: str | None = None
) -> list[ResultsTable]:
    """Return the rows of each side whose kernel matches one of the globs, and of one quantity; the yardsticks stay.

    Args:
        sides: The rows of each.
        kernels: Globs of kernels, see `Key.matches`; every kernel if empty.
        quantity: Name of a quantity; every one if None.

    Raises:
        ValueError: A name matches nothing on any side; says what there is.
    """
    named = list(dict.fromkeys(kernel for side in sides for kernel in side.used("kernel")))
    yardsticks = {kernel for kernel in named if is_yardstick(kernel)}
    wanted = yardsticks | {*matching(split_patterns(kernels), [one for one in named if one not in yardsticks])}
    quantities = dict.fromkeys(case.quantity for side in sides for case in side.used("case"))
    if quantity is not None and quantity not in quantities:
        raise ValueError(unknown("quantity", quantity, quantities))
    if not kernels and quantity is None:
        return [*sides]
    chosen = quantities if quantity is None else (quantity,)
    return [
        side[side.where("kernel", wanted.__contains__) & side.where("case", lambda case: case.quantity in chosen)]
        for side in sides
    ]


def is_yardstick(kernel: str) -> bool:
    """Tell whether kernels are timed beside it."""
    return Key.parse(kernel).is_yardstick


def pair(sides: SideTables, force: bool, names: tuple[str, str]) -> Pairing:
    """Pair the rows of two sides by machine, case and kernel, and never by their position.

    Args:
        sides: Their rows, aligned.
        force: Whether sides that differ in machine, dtype, layout, device or threads only are paired all the same.
        names: What to call the two in messages.

    Raises:
        ValueError: The sides differ in machine, dtype, layout, device or threads only, and the comparison is not
            forced; it is forced, and a side holds one kernel and case by several of these means; or a side holds a
            measurement twice.
    """
    found = [places(side) for side in sides]
    kernels = [[one for one in side if not is_yardstick(one[-1])] for side, _ in found]
    apart = tuple(name for name in KEY if values_of(kernels[0], name).isdisjoint(values_of(kernels[1], name)))
    by_means = set(apart) <= set(MEANS)
    if apart and by_means and not force:
        raise ValueError(
            f"{names[0]} and {names[1]} differ in {_differences(apart, kernels)}; measure both alike, or force the "
            "comparison"
        )
    ignored = apart if by_means else ()
    left, right = (
        _grouped(side, own, [part for part in KEY if part not in ignored], name)
        for side, own, name in zip(sides, found, names, strict=True)
    )
    keys = sorted(one for one in left.keys() | right.keys() if not is_yardstick(one[-1]))
    common = any(one in left and one in right for one in keys)
    pairs = [_pair(sides, left.get(one), right.get(one)) for one in keys]
    return Pairing(pairs, ignored, "" if common else _nothing(apart, kernels, names))


def _pair(sides: SideTables, before: Ints | None, after: Ints | None) -> Pair:
    none = np.zeros(0, np.int64)
    left, right = (
        KernelRows(side, none if rows is None else rows) for side, rows in zip(sides, (before, after), strict=True)
    )
    told = right if len(right) else left
    return Pair(left, right, *place_at(told.side, told.rows[0]))


def _grouped(side: ResultsTable, own: tuple[list[Place], Ints], key: Sequence[str], name: str) -> dict[Any, Ints]:
    """Return the rows by the parts of their place that `key` names, from all places and the position of each row's."""
    found: dict[tuple[Any, ...], int] = {}
    keys = [tuple(part_of(place, part) for part in key) for place in own[0]]
    codes = [found.setdefault(one, len(found)) for one in keys]
    require_one_place(own[0], codes, name)
    code = np.array(codes, np.int64)[own[1]] if codes else np.zeros(0, np.int64)
    require_once(side, code, name)
    return dict(zip(found, groups(code), strict=True))


def _nothing(apart: Sequence[str], places: Sequence[Sequence[Place]], names: Sequence[str]) -> str:
    """Return why two sides have nothing in common."""
    if empty := [name for name, found in zip(names, places, strict=True) if not found]:
        found = f"{' and '.join(empty)} has no row of a kernel"
        return f"{found}; `gradkernels run` writes them, --kernel and --quantity leave some out"
    if apart:
        return f"no row of one file has a counterpart in the other: they differ in {_differences(apart, places)}"
    return f"no row of {names[0]} has the machine, case and kernel of a row of {names[1]}"


def _differences(apart: Sequence[str], places: Sequence[Sequence[Place]]) -> str:
    return ", ".join(f"{name} ({_few(places[0], name)} against {_few(places[1], name)})" for name in apart)


def _few(places: Sequence[Place], name: str) -> str:
    values = sorted(values_of(places, name))
    return " ".join(map(str, values[:_SHOWN])) + (" ..." if len(values) > _SHOWN else "")
