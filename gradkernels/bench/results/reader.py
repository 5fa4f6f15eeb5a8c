"""The reader of results files, of any size: every command that looks at many rows begins here.

A file is read in parts of some megabytes, each of whole lines, two at once. pyarrow turns a part into columns, which
are checked as columns; where it is not installed, and where anything about a part is unusual, the part is read line by
line, by the same rules, so that a fault is named by line and column.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from gradkernels.bench.results.arrow_rows import CsvColumns, arrow, columns_of_csv
from gradkernels.bench.results.parts import Part, parts
from gradkernels.bench.results.table import (
    NUMBERS,
    RUN_FACTS,
    SHARED_LISTS,
    STATUSES,
    ResultsTable,
    RunFacts,
    distinct,
    positions,
    tabulate,
)
from gradkernels.bench.stats.estimates import Floats, Ints
from gradkernels.coordinates import Coordinates
from gradkernels.record import CASE, Record
from gradkernels.record.blocks import row_identity
from gradkernels.record.reading import Malformed, decoded, parse, twice

_READERS = 2
"""Parts that are read at once: columns are made of text by libraries that leave the interpreter to others meanwhile."""


def read_results(files: Sequence[Path]) -> ResultsTable:
    """Read the rows of results files, one after the other.

    Raises:
        Malformed: As `gradkernels.record.read` does, also for a row that two of the files hold.
        OSError: A file cannot be opened.
    """
    require_named_once(files)
    rows = GrowingTable(sum(Path(file).stat().st_size for file in files))
    for part, found in parts_by_columns(files):
        rows.add(part, found)
    table = rows.table()
    _require_distinct(table, files)
    return table


def require_named_once(files: Sequence[Path]) -> None:
    """Refuse a file that is there twice, whatever its names are."""
    seen: set[Path] = set()
    for file in files:
        if (real := Path(file).resolve()) in seen:
            raise Malformed(f"{file} is given twice; its rows count once, so name it once")
        seen.add(real)


def parts_by_columns(files: Sequence[Path]) -> Iterator[tuple[Part, CsvColumns | None]]:
    """Yield the parts of files in order, each with its columns; None for those that must be read line by line.

    Several parts are read at once. A fault that is found on the way to a part is raised after the parts before it.
    """
    csv, fault = arrow(), None
    ahead: deque[tuple[Part, Future[CsvColumns | None]]] = deque()
    with ThreadPoolExecutor(_READERS) as pool:
        try:
            for part in (part for file in files for part in parts(Path(file))):
                ahead.append((part, pool.submit(_columns, csv, part)))
                if len(ahead) > _READERS:
                    first, columns = ahead.popleft()
                    yield first, columns.result()
        except (Malformed, OSError) as error:
            fault = error
        yield from ((part, columns.result()) for part, columns in ahead)
    if fault:
        raise fault


def _columns(csv: ModuleType | None, part: Part) -> CsvColumns | None:
    return columns_of_csv(csv, part.lines, part.header) if csv and part.lines.endswith(b"\n") else None


@dataclass
class GrowingTable:
    """Columns as they grow, and what their rows share.

    Each column is one piece of memory from the beginning: many small ones would not be given back in the end.

    Attributes:
        bytes: Of all files, by which it is foreseen how many rows there will be.
        shared: What rows share, with its position.
        columns: Memory for each column, of which the first `count` rows are there.
        count: Rows so far.
        foreseen: Rows that there will be, by the last part.
    """

    bytes: int
    shared: dict[str, dict[Any, int]] = field(default_factory=lambda: {name: {} for name in SHARED_LISTS})
    columns: dict[str, Any] = field(default_factory=dict)
    count: int = 0
    foreseen: int = 0

    def add(self, part: Part, found: CsvColumns | None) -> CsvColumns | list[Record]:
        """Add the rows of a part of a file, as `parts_by_columns` yields it; return its columns, or single records."""
        singly = [record for _, record in _read_singly(part)] if found is None else []
        count = len(singly) if found is None else len(found["kernel"][1])
        self.foreseen = self.count + int(1.05 * count * self.bytes / len(part.lines))
        if found is None:
            self._add_table(tabulate(singly))
        else:
            self._add_columns(found)
        self.count += count
        return singly if found is None else found

    def _add_columns(self, found: CsvColumns) -> None:
        runs, run = _tuples([found[name] for name in RUN_FACTS])
        cases, case = _tuples([found[name] for name in CASE])
        self._extend("run", [RunFacts(*facts) for facts in runs], run)
        self._extend("case", [Coordinates(*values) for values in cases], case)
        for name in ("kernel", "reason"):
            self._extend(name, *found[name])
        values, code = found["status"]
        self._append("status", positions(values, STATUSES).astype(np.int8)[code])
        values, code = found["pass"]
        self._append("pass_", np.array(values, np.int64)[code])
        values, code = found.get("block", ([1], np.zeros(len(code), np.int32)))  # as in schema 1, which had none
        self._append("block", np.array(values, np.int64)[code])
        for name in NUMBERS:
            self._append(name, _floats(found[name]))

    def _add_table(self, table: ResultsTable) -> None:
        for name, plural in SHARED_LISTS.items():
            self._extend(name, getattr(table, plural), getattr(table, name))
        self._append("status", table.status)
        self._append("pass_", table.pass_)
        self._append("block", table.block)
        for name in NUMBERS:
            self._append(name, table.numbers[name])

    def _extend(self, name: str, values: Sequence[Any], code: Ints) -> None:
        known = self.shared[name]
        places = np.array([known.setdefault(value, len(known)) for value in values], np.int32)
        self._append(name, places[code])

    def _append(self, name: str, column: Ints | Floats) -> None:
        end = self.count + len(column)
        memory = self.columns.setdefault(name, np.empty(0, column.dtype))
        if end > len(memory):
            wider = np.empty(max(end, self.foreseen, 2 * len(memory)), column.dtype)
            wider[: self.count] = memory[: self.count]
            memory = self.columns[name] = wider
        memory[self.count : end] = column

    def table(self) -> ResultsTable:
        """Return the rows."""
        if not self.columns:
            return tabulate([])
        whole: dict[str, Any] = {name: memory[: self.count] for name, memory in self.columns.items()}
        numbers = {name: whole.pop(name) for name in NUMBERS}
        shared: dict[str, Any] = {plural: tuple(self.shared[name]) for name, plural in SHARED_LISTS.items()}
        return ResultsTable(numbers=numbers, **whole, **shared)


def _floats(column: tuple[list[Any], Ints] | Floats) -> Floats:
    """Return a column as floats, NaN for none; of whole numbers there are values and positions."""
    if isinstance(column, np.ndarray):
        return column
    values, code = column
    return np.array(values, np.float64)[code]


def _tuples(columns: Sequence[tuple[list[Any], Ints]]) -> tuple[list[tuple[Any, ...]], Ints]:
    """Return the different combinations of columns, and for each row the position of its own."""
    codes, inverse = distinct(*(code for _, code in columns))
    values = ([values[place] for place in code] for (values, _), code in zip(columns, codes, strict=True))
    return list(zip(*values, strict=True)), inverse


def _require_distinct(table: ResultsTable, files: Sequence[Path]) -> None:
    """Refuse a measurement that is there twice, and name both lines."""
    _, pass_ = table.pass_ids
    (different, *_), rows = distinct(pass_, table.own_block, table.machine, table.case, table.kernel)
    if len(different) == len(rows):
        return
    seen: dict[tuple[object, ...], str] = {}
    for where, record in records_in(files):
        if (first := seen.setdefault(row_identity(record), where)) != where:
            raise twice(record, first, where)


def records_in(files: Sequence[Path]) -> Iterator[tuple[str, Record]]:
    """Yield every row of files, read line by line, and where it is: file and line.

    Raises:
        Malformed: As for `read_results`; a row that is there twice is no fault here.
    """
    for file in files:
        for part in parts(Path(file)):
            for number, record in _read_singly(part):
                yield f"{file}, line {number}", record


def _read_singly(part: Part) -> Iterator[tuple[int, Record]]:
    return parse(part.path, decoded(part.path, part.lines, part.start), part.header, part.before)
