"""Several results files as one: every measurement once, in the columns of now.

Files are read by columns, as for every command that looks at many rows; each line that is written is put together from
its cells, of which those that rows share are made into text once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import compress, islice
from pathlib import Path
from typing import Any

import numpy as np

from gradkernels.bench.results.arrow_rows import CsvColumns
from gradkernels.bench.results.reader import GrowingTable, parts_by_columns, records_in
from gradkernels.bench.results.table import ResultsTable, distinct
from gradkernels.coordinates import Coordinates
from gradkernels.key import Key
from gradkernels.record import COLUMNS, DERIVED, HEADER, SCHEMA, Record, derived, line
from gradkernels.record.reading import Malformed

_DIGEST = 16


@dataclass
class MergedRows:
    """What came of the rows of files so far.

    Attributes:
        see: Called, once or more, with the name of a run, a case and how many rows of theirs are kept, of kernels.
        rows: That are kept.
        repeated: That were there already.
        upgraded: Of those that are kept, rows of an older schema.
    """

    see: Callable[[str, Coordinates, int], None]
    rows: int = 0
    repeated: int = 0
    upgraded: int = 0
    _first: dict[bytes, int] = field(default_factory=dict, init=False)
    _digests: bytearray = field(default_factory=bytearray, init=False)

    def lines(self, files: Sequence[Path]) -> Iterator[str]:
        """Yield the lines of the merged file.

        Raises:
            Malformed: A file is no results file, or two rows of one measurement differ; names both and the columns.
            OSError: A file cannot be opened.
        """
        yield HEADER
        read = GrowingTable(sum(file.stat().st_size for file in files))
        for part, columns in parts_by_columns(files):
            begin = read.count
            found = read.add(part, columns)
            table = read.table()[begin : read.count]
            texts = _lines(found)
            kept = self._kept(table, texts, files)
            self._count(table, kept, _schemas(found))
            yield from compress(texts, kept)

    def _kept(self, table: ResultsTable, texts: Iterable[str], files: Sequence[Path]) -> list[bool]:
        """Return which rows are new; of measurements that are there already, the lines must be the same."""
        kept = []
        for key, text in zip(_identities(table), texts, strict=True):
            number = len(self._digests) // _DIGEST
            self._digests += (digest := _digest(text))
            first = self._first.setdefault(key, number)
            if first != number and digest != self._digests[first * _DIGEST : (first + 1) * _DIGEST]:
                raise _conflict(files, first, number)
            kept.append(first == number)
        return kept

    def _count(self, table: ResultsTable, kept: list[bool], schemas: Iterable[int]) -> None:
        old = [schema < SCHEMA for schema in compress(schemas, kept)]
        self.rows += len(old)
        self.repeated += len(kept) - len(old)
        self.upgraded += sum(old)
        rows = table[np.array(kept, bool)]
        (runs, cases), place = distinct(rows.run, rows.case)
        of_kernels = place[rows.where("kernel", lambda kernel: Key.parse(kernel).kind == "kernel")]
        for run, case, count in zip(runs, cases, np.bincount(of_kernels, minlength=len(runs)), strict=True):
            self.see(table.runs[run].run, table.cases[case], int(count))


def _identities(table: ResultsTable) -> list[bytes]:
    """Return what no two rows have in common, as `record.blocks.row_identity` says, each as positions of values."""
    columns = (table.run_name, table.pass_, table.own_block, table.machine, table.case, table.kernel)
    codes = np.ascontiguousarray(np.stack(columns, axis=1), np.int64)
    found: list[bytes] = codes.view(f"V{codes.itemsize * len(columns)}").ravel().tolist()
    return found


def _lines(rows: CsvColumns | list[Record]) -> list[str]:
    """Return the lines of rows in the columns of now."""
    if isinstance(rows, list):
        return [line(replace(row, schema=SCHEMA).columns().values()) for row in rows]
    kernels, kernel = rows["kernel"]
    added = {"schema": [SCHEMA], "block": [1]}  # what stands there for all rows
    by_kernel = {name: ([derived(one)[name] for one in kernels], kernel) for name in DERIVED}
    every = {name: rows.get(name, by_kernel.get(name, (added.get(name), np.zeros_like(kernel)))) for name in COLUMNS}
    every["schema"] = added["schema"], np.zeros_like(kernel)
    return [",".join(cells) + "\n" for cells in zip(*map(_cells, every.values()), strict=True)]


def _cells(column: Any) -> list[str]:
    """Return the text of each cell of a column, as `record.line` writes it."""
    if isinstance(column, np.ndarray):
        return ["" if number != number else str(number) for number in column.tolist()]  # NaN is none
    values, code = column
    texts = np.array([line((value, None))[:-2] for value in values], object)  # a line of one empty cell has quotes
    found: list[str] = texts[code].tolist()
    return found


def _schemas(rows: CsvColumns | list[Record]) -> list[int]:
    if isinstance(rows, list):
        return [row.schema for row in rows]
    values, code = rows["schema"]
    return [values[place] for place in code.tolist()]


def _digest(text: str) -> bytes:
    """Return what stands for a line in little memory: there may be millions."""
    return hashlib.blake2b(text.encode(), digest_size=_DIGEST).digest()


def _conflict(files: Sequence[Path], first: int, second: int) -> Malformed:
    """Return what to raise for two rows of one measurement, from their numbers among all."""
    found = islice(records_in(files), first, second + 1)
    where, one = next(found)
    *_, (there, other) = found
    mine, others = (replace(record, schema=SCHEMA).columns() for record in (one, other))
    apart = [name for name, value in mine.items() if value != others[name]]
    what = f"kernel {one.kernel} of {one.case.described('=')} for run {one.run}, pass {one.pass_}"
    return Malformed(f"{where}, and {there} both hold {what}, but differ in {', '.join(apart)}; remove one of the rows")
