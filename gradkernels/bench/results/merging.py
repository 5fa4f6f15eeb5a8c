"""Several results files as one: every measurement once, in the columns of now."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from gradkernels.bench.results.reader import records_in
from gradkernels.record import HEADER, SCHEMA, Record, line
from gradkernels.record.blocks import identity
from gradkernels.record.reading import Malformed


@dataclass
class MergedRows:
    """What came of the rows of files so far.

    Attributes:
        rows: That are kept.
        repeated: That were there already.
        upgraded: Of those that are kept, rows of an older schema.
        see: Called with each row that is kept.
    """

    see: Callable[[Record], None]
    rows: int = 0
    repeated: int = 0
    upgraded: int = 0
    _seen: dict[bytes, tuple[int, bytes]] = field(default_factory=dict, init=False)

    def lines(self, files: Sequence[Path]) -> Iterator[str]:
        """Yield the lines of the merged file.

        Raises:
            Malformed: A file is no results file, or two rows of one measurement differ; names both and the columns.
            OSError: A file cannot be opened.
        """
        yield HEADER
        for number, (where, record) in enumerate(records_in(files)):
            current = replace(record, schema=SCHEMA)
            if self._is_new(current, number):
                self.rows += 1
                self.upgraded += record.schema < SCHEMA
                self.see(current)
                yield line(current.columns().values())
            else:
                self._require_equal(current, where, files)

    def _is_new(self, record: Record, number: int) -> bool:
        key = _digest(identity(record))
        first, _ = self._seen.setdefault(key, (number, _digest(record)))
        return first == number

    def _require_equal(self, record: Record, where: str, files: Sequence[Path]) -> None:
        first, content = self._seen[_digest(identity(record))]
        if content != _digest(record):
            raise _conflict(record, where, *_row(files, first))
        self.repeated += 1


def _digest(what: object) -> bytes:
    """Return what stands for a value in little memory: there may be millions."""
    return hashlib.blake2b(repr(what).encode(errors="replace"), digest_size=16).digest()


def _row(files: Sequence[Path], number: int) -> tuple[str, Record]:
    return next(found for place, found in enumerate(records_in(files)) if place == number)


def _conflict(record: Record, where: str, first: str, other: Record) -> Malformed:
    mine, others = record.columns(), replace(other, schema=SCHEMA).columns()
    apart = [name for name, value in mine.items() if value != others[name]]
    what = f"kernel {record.kernel} of {record.case.described('=')} for run {record.run}, pass {record.pass_}"
    return Malformed(f"{first}, and {where} both hold {what}, but differ in {', '.join(apart)}; remove one of the rows")
