"""Rows of results files by column: as many as a file has, in the memory of a few numbers each.

What rows share (the facts of a run, cases, names of kernels, reasons) is held once, and each row has the position of
its own among them. A number that a row does not have is NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

import numpy as np

from gradkernels.bench.stats.estimates import Floats, Ints, PassId
from gradkernels.coordinates import Coordinates
from gradkernels.record import Record, Status
from gradkernels.record.blocks import is_in_each_block

Flags = np.ndarray[Any, np.dtype[np.bool_]]

STATUSES = tuple(Status)
NUMBERS = ("seconds_median", "seconds_first", "limit_seconds", "peak_bytes")
"""The numbers of each row that a reader of many rows asks for."""

_DENSE = 4
"""Of so many times as many numbers as there are rows a table tells which there are; of more, sorting."""

_Shared = TypeVar("_Shared", bound=Hashable)


class RunFacts(NamedTuple):
    """What the rows of one run have in common, on one machine."""

    run: str
    started: str
    machine: str
    versions: str
    commit: str


RUN_FACTS = tuple(RunFacts.__annotations__)


@dataclass(frozen=True)
class ResultsTable:
    """Rows by column.

    Attributes:
        runs, cases, kernels, reasons: What rows share, each once.
        run, case, kernel, reason: Per row, its position among those.
        status: Per row, its position in STATUSES.
        pass_: Per row, the number of the pass in its run.
        block: Per row, the number of the process in its pass.
        numbers: Per row, the columns NUMBERS; NaN where it has none.
    """

    runs: tuple[RunFacts, ...]
    cases: tuple[Coordinates, ...]
    kernels: tuple[str, ...]
    reasons: tuple[str, ...]
    run: Ints
    case: Ints
    kernel: Ints
    reason: Ints
    status: Ints
    pass_: Ints
    block: Ints
    numbers: dict[str, Floats]

    def __len__(self) -> int:
        return len(self.run)

    def __getitem__(self, rows: Ints | Flags | slice) -> ResultsTable:
        """Return some of the rows, in the order that is asked for."""
        if not isinstance(rows, slice) and rows.dtype == bool and rows.all():
            return self
        numbers = {name: column[rows] for name, column in self.numbers.items()}
        return replace(self, numbers=numbers, **{name: getattr(self, name)[rows] for name in _PER_ROW})

    @property
    def seconds(self) -> Floats:
        """Median seconds per call; NaN for rows that are not `ok`."""
        return self.numbers["seconds_median"]

    @cached_property
    def timed(self) -> Flags:
        """Which rows have a time."""
        return ~np.isnan(self.seconds)

    @cached_property
    def machine(self) -> Ints:
        """Per row, the position of its machine among `machines`."""
        return positions([facts.machine for facts in self.runs], self.machines)[self.run]

    @cached_property
    def machines(self) -> tuple[str, ...]:
        """The machines, each once."""
        return tuple(dict.fromkeys(facts.machine for facts in self.runs))

    @cached_property
    def pass_ids(self) -> tuple[list[PassId], Ints]:
        """The passes, each once: run and number; and per row the position of its own."""
        names = tuple(dict.fromkeys(facts.run for facts in self.runs))
        pairs, inverse = distinct(self.run_name, self.pass_)
        return [(names[run], int(pass_)) for run, pass_ in zip(*pairs, strict=True)], inverse

    @cached_property
    def process(self) -> Ints:
        """Per row, a number of the process that measured it: of its run, pass and block."""
        return distinct(self.run_name, self.pass_, self.block)[1]

    @cached_property
    def own_block(self) -> Ints:
        """Per row, the block of what every process of a pass measures; 0 for all else, which has one row a pass."""
        blocks: Ints = self.block * self.where("kernel", is_in_each_block)
        return blocks

    @cached_property
    def run_name(self) -> Ints:
        """Per row, the position of its run's name among the names, each once."""
        names = [facts.run for facts in self.runs]
        return positions(names, dict.fromkeys(names))[self.run]

    def where(self, name: str, true: Callable[[Any], bool]) -> Flags:
        """Return which rows have a `run`, `case`, `kernel` or `reason` for which `true` holds."""
        return np.array([true(value) for value in getattr(self, SHARED_LISTS[name])], bool)[getattr(self, name)]

    def used(self, name: str) -> list[Any]:
        """Return what rows share that some row has, in the order of the first of them; see `where` for the name."""
        values, code = getattr(self, SHARED_LISTS[name]), getattr(self, name)
        first = np.full(len(values), len(code))
        np.minimum.at(first, code, np.arange(len(code)))
        return [values[place] for place in np.argsort(first) if first[place] < len(code)]


_PER_ROW = ("run", "case", "kernel", "reason", "status", "pass_", "block")
SHARED_LISTS = {"run": "runs", "case": "cases", "kernel": "kernels", "reason": "reasons"}
"""What rows share: the column of positions, and the values that they are positions among."""

assert {*_PER_ROW, *SHARED_LISTS.values(), "numbers"} == {field.name for field in fields(ResultsTable)}


def positions(values: Sequence[Hashable], among: Iterable[Hashable]) -> Ints:
    """Return the position of each value among others, which hold all of them."""
    found = {value: position for position, value in enumerate(among)}
    return np.fromiter((found[value] for value in values), np.int32)


def distinct(*columns: Ints) -> tuple[list[Ints], Ints]:
    """Return the distinct rows of columns of numbers, by column and ascending, and for each row its position there."""
    code = np.zeros(len(columns[0]), np.int64)
    for column in columns:
        code, found = _ranked(code, *_small(column))
    first = np.zeros(found, np.int64)
    first[code[::-1]] = np.arange(len(code) - 1, -1, -1)
    return [column[first] for column in columns], code


def _small(column: Ints) -> tuple[int, Ints]:
    """Return how many values a column may have, and for each row the position of its own among them, ascending."""
    most = int(column.max(initial=0))
    if column.min(initial=0) >= 0 and most < _DENSE * len(column):
        return most + 1, column
    values, inverse = np.unique(column, return_inverse=True)
    return len(values), inverse


def _ranked(code: Ints, size: int, column: Ints) -> tuple[Ints, int]:
    """Return a number for each pair of a code and a position below `size`, ascending from 0, and how many there are."""
    pair = code * size + column
    most = int(pair.max(initial=-1)) + 1
    if most <= _DENSE * len(pair):
        there = np.zeros(most, bool)
        there[pair] = True
        rank = np.cumsum(there, dtype=np.int32) - 1
        return rank[pair], int(there.sum())
    values, inverse = np.unique(pair, return_inverse=True)
    return inverse, len(values)


def groups(code: Ints) -> list[Ints]:
    """Return for each number in `code`, from 0 and ascending, the rows that have it, in order."""
    order = np.argsort(code, kind="stable").astype(np.int32 if len(code) < 2**31 else np.int64)
    ends = np.bincount(code).cumsum()
    return np.split(order, ends[:-1]) if len(ends) else []


def tabulate(records: Iterable[Record] | ResultsTable) -> ResultsTable:
    """Return records by column; a table as it is."""
    if isinstance(records, ResultsTable):
        return records
    rows = list(records)
    runs, run = _shared(RunFacts(*(getattr(row, name) for name in RUN_FACTS)) for row in rows)
    cases, case = _shared(row.case for row in rows)
    kernels, kernel = _shared(row.kernel for row in rows)
    reasons, reason = _shared(row.measurement.reason for row in rows)
    status = positions([row.measurement.status for row in rows], STATUSES).astype(np.int8)
    pass_, block = (np.array([getattr(row, name) for row in rows], np.int64) for name in ("pass_", "block"))
    # None becomes NaN.
    numbers = {name: np.array([getattr(row.measurement, name) for row in rows], np.float64) for name in NUMBERS}
    return ResultsTable(runs, cases, kernels, reasons, run, case, kernel, reason, status, pass_, block, numbers)


def _shared(values: Iterable[_Shared]) -> tuple[tuple[_Shared, ...], Ints]:
    found: dict[_Shared, int] = {}
    codes = np.array([found.setdefault(value, len(found)) for value in values], np.int32)
    return tuple(found), codes


def aligned_tables(tables: Sequence[ResultsTable]) -> list[ResultsTable]:
    """Return the tables with one list of each that rows share, so that equal positions mean equal things."""
    shared: dict[str, Any] = {}
    recoded: list[dict[str, Any]] = [{} for _ in tables]
    for name, plural in SHARED_LISTS.items():
        shared[plural] = tuple(dict.fromkeys(value for table in tables for value in getattr(table, plural)))
        for table, columns in zip(tables, recoded, strict=True):
            columns[name] = positions(getattr(table, plural), shared[plural])[getattr(table, name)]
    return [replace(table, **shared, **columns) for table, columns in zip(tables, recoded, strict=True)]


def joined(tables: Sequence[ResultsTable]) -> ResultsTable:
    """Return the rows of several tables, one after the other."""
    parts = aligned_tables(tables) if tables else [tabulate([])]
    numbers = {name: np.concatenate([part.numbers[name] for part in parts]) for name in NUMBERS}
    rows: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts]) for name in _PER_ROW}
    return replace(parts[0], numbers=numbers, **rows)
