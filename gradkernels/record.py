"""The row of a results file: what one kernel did on one case in one pass.

The fields of `Record` ARE the columns of the CSV, in order. Times are seconds per call, memory is bytes.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path

SCHEMA = 1
STATUSES = ("ok", "wrong", "unsupported", "failed", "timeout")


class Malformed(ValueError):
    """A results file that cannot be read; the message names the file, the line and the column."""


@dataclass(frozen=True)
class Record:
    """What a kernel did on a case, with everything needed to read it far from where it was written.

    Refuses a time unless the status is `ok`, and `ok` unless a check has passed: no time without a proof.
    `results/README.md` explains every column.
    """

    schema: int
    run: str
    started: str
    machine: str
    cpu: str
    cores: int
    threads: int
    os: str
    python: str
    versions: str
    commit: str
    problem: str
    quantity: str
    kernel: str
    backend: str
    n: int
    features: int
    parameters: int
    dtype: str
    layout: str
    device: str
    seed: int
    pass_: int
    status: str
    reason: str = ""
    error: float | None = None
    tolerance: float | None = None
    rounds: int | None = None
    iterations: int | None = None
    seconds_median: float | None = None
    seconds_min: float | None = None
    seconds_q25: float | None = None
    seconds_q75: float | None = None
    seconds_first: float | None = None
    peak_bytes: int | None = None
    least_bytes: int | None = None
    limit_seconds: float | None = None

    def __post_init__(self) -> None:
        """Hold the promise: proven before timed."""
        if self.status not in STATUSES:
            raise ValueError(f"status is {self.status!r}; allowed: {', '.join(STATUSES)}")
        if self.status != "ok" and (self.seconds_median, self.seconds_first) != (None, None):
            raise ValueError(f"a record with status {self.status!r} carries a time; only 'ok' may")
        if self.status == "ok" and not (
            self.error is not None and self.tolerance is not None and self.error <= self.tolerance
        ):
            raise ValueError(f"'ok' without a passed check: error {self.error}, tolerance {self.tolerance}")
        if self.status == "ok" and not (self.seconds_median and self.seconds_median > 0):
            raise ValueError(f"'ok' without a positive time: seconds_median is {self.seconds_median}")

    @property
    def case(self) -> tuple[str | int, ...]:
        """What must be equal for two times to be times of the same work by the same means."""
        return tuple(getattr(self, name) for name in CASE)


COLUMNS = tuple(field.name.rstrip("_") for field in fields(Record))
CASE = ("problem", "quantity", "n", "features", "dtype", "layout", "device", "threads")
_TYPES = {field.name.rstrip("_"): str(field.type) for field in fields(Record)}
_READ = {"int": int, "float": float, "str": str}


def line(values: Iterable[object]) -> str:
    """One CSV line with its newline; None is empty."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow("" if value is None else value for value in values)
    return text.getvalue()


HEADER = line(COLUMNS)


def append(path: Path, records: Iterable[Record]) -> None:
    """Append each record as one whole line, written at once and flushed to the disk."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        for record in records:
            os.write(descriptor, line(astuple(record)).encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read(path: str | Path) -> list[Record]:
    """The records of a results file.

    Raises:
        Malformed: Not a results file, or a row that breaks its rules; names the line and the column.
        OSError: The file cannot be opened.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise Malformed(f"{path}: not UTF-8 text at byte {error.start}; this is not a results file") from None
    return list(_parse(path, text))


def _parse(path: Path, text: str) -> Iterator[Record]:
    lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = next(lines, [])
        if header[: len(COLUMNS)] != list(COLUMNS):
            raise Malformed(f"{path}, line 1: {_header_fault(header)}")
        for row in lines:
            yield _record(row, header, f"{path}, line {lines.line_num}")
    except csv.Error as error:
        raise Malformed(f"{path}, line {lines.line_num}: {error}") from None
    if text and not text.endswith("\n"):
        raise Malformed(f"{path}, line {lines.line_num}: cut off; `gradkernels run --resume` mends it")


def _header_fault(header: list[str]) -> str:
    for position, wanted in enumerate(COLUMNS):
        given = header[position] if position < len(header) else "missing"
        if given != wanted:
            return f"column {position + 1} is {given!r}, expected {wanted!r}; this is not a results file"
    raise AssertionError("the header has no fault")


def _record(row: list[str], header: list[str], where: str) -> Record:
    if len(row) != len(header):
        raise Malformed(f"{where}: {len(row)} columns, expected {len(header)}")
    values = {name: _value(name, text, where) for name, text in zip(COLUMNS, row, strict=False)}
    values["pass_"] = values.pop("pass")
    try:
        return Record(**values)  # type: ignore[arg-type]
    except ValueError as error:
        raise Malformed(f"{where}, column status: {error}") from None


def _value(column: str, text: str, where: str) -> int | float | str | None:
    kind, _, optional = _TYPES[column].partition(" | ")
    if not text and optional:
        return None
    try:
        return _READ[kind](text)
    except ValueError:
        raise Malformed(f"{where}, column {column}: {text!r} is not a number") from None


def whole_lines(path: Path) -> int:
    """Length in bytes of the file up to its last newline: what survives a killed writer."""
    return path.read_bytes().rfind(b"\n") + 1


def plain(record: Record) -> Record:
    """The record without the `@out` suffix of its kernel."""
    return replace(record, kernel=record.kernel.removesuffix("@out"))
