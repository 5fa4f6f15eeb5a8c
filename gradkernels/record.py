"""The row of a results file: what one kernel did on one case in one pass.

The fields of `Record` ARE the columns of the CSV, in order. Times are seconds per call, memory is bytes.
"""

from __future__ import annotations

import csv
import io
import math
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass, fields
from enum import StrEnum
from pathlib import Path

SCHEMA = 1
TIMES = ("seconds_median", "seconds_min", "seconds_q25", "seconds_q75", "seconds_first")


class Malformed(ValueError):
    """A results file that cannot be read; the message names the file, the line and the column."""


class Status(StrEnum):
    """What became of a kernel on a case."""

    ok = "ok"
    wrong = "wrong"
    unsupported = "unsupported"
    failed = "failed"
    timeout = "timeout"


@dataclass(frozen=True)
class Measurement:
    """What was found out about one kernel on one case in one pass; times are seconds per call.

    Refuses a time unless the status is `ok`, and `ok` unless a check has passed: no time without a proof.
    `results/README.md` explains every column.
    """

    kernel: str
    backend: str
    status: Status
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
        if self.status not in [*Status]:
            raise ValueError(f"status is {str(self.status)!r}; allowed: {', '.join(Status)}")
        object.__setattr__(self, "status", Status(self.status))
        times = {name: value for name in TIMES if (value := getattr(self, name)) is not None}
        if self.status != Status.ok:
            if times:
                raise ValueError(f"a record with status '{self.status}' carries {' and '.join(times)}; only 'ok' may")
            return
        if self.error is None or self.tolerance is None or not 0 <= self.error <= self.tolerance < math.inf:
            raise ValueError(f"'ok' without a passed check: error {self.error}, tolerance {self.tolerance}")
        for name, value in {"seconds_median": None, **times}.items():
            if value is None or not 0 < value < math.inf:
                raise ValueError(f"'ok' without a positive time: {name} is {value}")


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
        if self.status not in [*Status]:
            raise ValueError(f"status is {self.status!r}; allowed: {', '.join(Status)}")
        times = {name: value for name in TIMES if (value := getattr(self, name)) is not None}
        if self.status != "ok":
            if times:
                raise ValueError(f"a record with status {self.status!r} carries {' and '.join(times)}; only 'ok' may")
            return
        if self.error is None or self.tolerance is None or not 0 <= self.error <= self.tolerance < math.inf:
            raise ValueError(f"'ok' without a passed check: error {self.error}, tolerance {self.tolerance}")
        for name, value in {"seconds_median": None, **times}.items():
            if value is None or not 0 < value < math.inf:
                raise ValueError(f"'ok' without a positive time: {name} is {value}")

    @property
    def case(self) -> tuple[str | int, ...]:
        """What must be equal for two times to be times of the same work by the same means."""
        return tuple(getattr(self, name) for name in CASE)


COLUMNS = tuple(field.name.rstrip("_") for field in fields(Record))
CASE = ("problem", "quantity", "n", "features", "dtype", "layout", "device", "threads")
_TYPES = {field.name.rstrip("_"): str(field.type) for field in fields(Record)}
_READ = {"int": int, "float": float, "str": str}
_PLAIN = re.compile(r"[-+.0-9a-zA-Z]+")


def line(values: Iterable[object]) -> str:
    """One CSV line with its newline; None is empty, and line breaks inside a value become spaces."""
    text = io.StringIO()
    cells = ("" if value is None else " ".join(str(value).splitlines()) for value in values)
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()


HEADER = line(COLUMNS)


def append(path: Path, records: Iterable[Record]) -> None:
    """Append each record as one whole line, written at once and flushed to the disk."""
    with path.open("ab") as file:
        for record in records:
            # Names of files may hold bytes that are no text; a row must not be lost to them.
            file.write(line(astuple(record)).encode(errors="replace"))
            file.flush()
        os.fsync(file.fileno())


def read(path: str | Path) -> list[Record]:
    """The records of a results file, or of several that were concatenated.

    Raises:
        Malformed: Not a results file, or a row that breaks its rules; names the line and the column.
        OSError: The file cannot be opened.
    """
    path = Path(path)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Malformed(f"{path}: not UTF-8 text at byte {error.start}; this is not a results file") from None
    return list(_parse(path, text))


def _parse(path: Path, text: str) -> Iterator[Record]:
    lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = _header(next(lines, []), f"{path}, line 1")
        if not text.endswith("\n"):
            raise Malformed(f"{path}, line {text.count(chr(10)) + 1}: cut off; `gradkernels run --resume` mends it")
        for row in lines:
            where = f"{path}, line {lines.line_num}"
            if row and row[0].removeprefix("\ufeff") == COLUMNS[0]:
                header = _header([COLUMNS[0], *row[1:]], where)
            else:
                yield _record(row, header, where)
    except csv.Error as error:
        raise Malformed(f"{path}, line {lines.line_num}: {error}") from None


def _header(row: list[str], where: str) -> list[str]:
    for position, wanted in enumerate(COLUMNS):
        given = repr(row[position]) if position < len(row) else "missing"
        if given != repr(wanted):
            fault = f"column {position + 1} is {given}, expected {wanted!r}; this is not a results file"
            raise Malformed(f"{where}: {fault}")
    return row


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
        value = _READ[kind](text)
    except ValueError:
        raise Malformed(f"{where}, column {column}: {text!r} is not a number") from None
    # Python reads 1_000, ١ and a padded 1 as numbers; no writer of results does.
    if kind != "str" and not _PLAIN.fullmatch(text):
        raise Malformed(f"{where}, column {column}: {text!r} is not a plain number")
    if kind == "int" and value < (column == "n"):
        raise Malformed(f"{where}, column {column}: {text} is too small")
    return value
