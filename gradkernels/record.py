"""The row of a results file: what one kernel did on one case in one pass.

Its columns are those of the CSV. Times are seconds per call, memory is bytes.
"""

from __future__ import annotations

import csv
import io
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Any

from gradkernels.coordinates import Coordinates
from gradkernels.names import counted

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

    `results/README.md` explains every column.

    Attributes:
        schema: Version of the columns.
        run: Identifies the run; the fields from `started` to `commit` say when, where and with what it was.
        case: What was computed.
        parameters: p, the number of entries of theta.
        seed: Of the draw of the data.
        pass_: Number of the pass within the run; a pass is one start of the process.
        measurement: What was found out.
    """

    schema: int
    run: str
    started: str
    machine: str
    cpu: str
    cores: int
    os: str
    python: str
    versions: str
    commit: str
    case: Coordinates
    parameters: int
    seed: int
    pass_: int
    measurement: Measurement

    @property
    def kernel(self) -> str:
        """Key of the kernel."""
        return self.measurement.kernel

    @classmethod
    def of(cls, columns: Mapping[str, Any]) -> Record:
        """Return the record with these values of its columns.

        Raises:
            ValueError: They break the rules of a measurement.
        """
        case, measurement = ({name: columns[name] for name in names if name in columns} for names in (CASE, MEASURED))
        own = {name: columns[name.rstrip("_")] for name in _OWN}
        return cls(**own, case=Coordinates(**case), measurement=Measurement(**measurement))

    def columns(self) -> dict[str, int | float | str | None]:
        """Return the values of the columns, by name and in their order."""
        values = {**vars(self), **vars(self.case), **vars(self.measurement), "pass": self.pass_}
        return {name: values[name] for name in COLUMNS}


COLUMNS = (
    *("schema", "run", "started", "machine", "cpu", "cores", "threads", "os", "python", "versions", "commit"),
    *("problem", "quantity", "kernel", "backend", "n", "features", "parameters", "dtype", "layout", "device", "seed"),
    *("pass", "status", "reason", "error", "tolerance", "rounds", "iterations"),
    *("seconds_median", "seconds_min", "seconds_q25", "seconds_q75", "seconds_first"),
    *("peak_bytes", "least_bytes", "limit_seconds"),
)
"""The columns of a results file, in order."""

CASE = tuple(field.name for field in fields(Coordinates))
MEASURED = tuple(field.name for field in fields(Measurement))
KINDS = {
    field.name.rstrip("_"): str(field.type).replace("Status", "str")
    for holder in (Record, Coordinates, Measurement)
    for field in fields(holder)
    if field.name.rstrip("_") in COLUMNS
}
"""The type of each column, `float | None` if it may be empty."""

_OWN = tuple(field.name for field in fields(Record) if field.name not in ("case", "measurement"))
_READ = {"int": int, "float": float, "str": str}
_PLAIN = re.compile(r"[-+.0-9a-zA-Z]+")


def line(values: Iterable[object]) -> str:
    """Return one CSV line with its newline; None is empty, and line breaks inside a value become spaces."""
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
            file.write(line(record.columns().values()).encode(errors="replace"))
            file.flush()
        os.fsync(file.fileno())


def read(path: str | Path) -> list[Record]:
    """Read the records of a results file, or of several that were concatenated.

    Raises:
        Malformed: Not a results file, or a row that breaks its rules; names the line and the column.
        OSError: The file cannot be opened.
    """
    path = Path(path)
    if path.is_char_device():  # which may never end
        raise Malformed(f"{path}: a device; this is not a results file")
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
        raise Malformed(f"{where}: {counted(len(row), 'column')}, expected {len(header)}")
    values = {name: _value(name, text, where) for name, text in zip(COLUMNS, row, strict=False)}
    try:
        return Record.of(values)
    except ValueError as error:
        raise Malformed(f"{where}, column status: {error}") from None


def _value(column: str, text: str, where: str) -> int | float | str | None:
    kind, _, optional = KINDS[column].partition(" | ")
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
