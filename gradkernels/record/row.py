"""The row of a results file: what one kernel did on one case in one pass.

Its columns are those of the CSV. Times are seconds per call, memory is bytes.
"""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Any

from gradkernels.coordinates import Coordinates
from gradkernels.key import Key

SCHEMA = 3
TIMES = ("seconds_median", "seconds_min", "seconds_q25", "seconds_q75", "seconds_first")


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
        block: Number of the process within the pass, which is started again where a kernel has ended it: only what
            was timed in one block took turns.
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
    block: int = 1

    @property
    def pass_id(self) -> tuple[str, int]:
        """Its run and the number of its pass."""
        return self.run, self.pass_

    @property
    def block_id(self) -> tuple[str, int, int]:
        """Its run, and the numbers of its pass and block."""
        return self.run, self.pass_, self.block

    @property
    def kernel(self) -> str:
        """Key of the kernel."""
        return self.measurement.kernel

    @classmethod
    def of(cls, columns: Mapping[str, Any]) -> Record:
        """Return the record with these values of its columns; those that follow from its kernel are passed over.

        Raises:
            ValueError: They break the rules of a measurement.
        """
        case, measurement = ({name: columns[name] for name in names if name in columns} for names in (CASE, MEASURED))
        given = {"block": 1, **columns}
        own = {name: given[name.rstrip("_")] for name in _OWN}
        return cls(**own, case=Coordinates(**case), measurement=Measurement(**measurement))

    def columns(self) -> dict[str, int | float | str | bool | None]:
        """Return the values of the columns, by name and in their order."""
        values = {**vars(self), **vars(self.case), **vars(self.measurement), "pass": self.pass_, **derived(self.kernel)}
        return {name: values[name] for name in COLUMNS}


DERIVED = {"role": "str", "way": "str", "out": "bool"}
"""Columns that say what is in the kernel's key, for those who filter by them, and their types."""


def derived(kernel: str) -> dict[str, str | bool]:
    """Return what a kernel's key says, by column: what the kernel is there for, its way, whether it is given memory."""
    key = Key.parse(" ".join(kernel.splitlines()))  # as the line of a file holds it
    return {"role": key.role, "way": key.way, "out": key.out}


COLUMNS = (
    *("schema", "run", "started", "machine", "cpu", "cores", "threads", "os", "python", "versions", "commit"),
    *("problem", "quantity", "kernel", "backend", "n", "features", "parameters", "dtype", "layout", "device", "seed"),
    *("pass", "status", "reason", "error", "tolerance", "rounds", "iterations"),
    *("seconds_median", "seconds_min", "seconds_q25", "seconds_q75", "seconds_first"),
    *("peak_bytes", "least_bytes", "limit_seconds"),
    "block",
    *DERIVED,
)
"""The columns of a results file, in order."""

ADDED = {"block": 2, **dict.fromkeys(DERIVED, 3)}
"""Columns that came after schema 1, and the schema that each came with."""

FIRST_COLUMNS = len(COLUMNS) - len(ADDED)
"""As many had schema 1."""

CASE = tuple(field.name for field in fields(Coordinates))
MEASURED = tuple(field.name for field in fields(Measurement))
KINDS = {
    field.name.rstrip("_"): str(field.type).replace("Status", "str")
    for holder in (Record, Coordinates, Measurement)
    for field in fields(holder)
    if field.name.rstrip("_") in COLUMNS
} | DERIVED
"""The type of each column, `float | None` if it may be empty."""

_OWN = tuple(field.name for field in fields(Record) if field.name not in ("case", "measurement"))


def line(values: Iterable[object]) -> str:
    """Return one CSV line with its newline; None is empty, and line breaks inside a value become spaces."""
    text = io.StringIO()
    cells = ("" if value is None else " ".join(str(value).splitlines()) for value in values)
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()


HEADER = line(COLUMNS)
OLD_HEADERS = tuple(line(name for name in COLUMNS if ADDED.get(name, 1) <= schema) for schema in range(1, SCHEMA))
"""The headers of the schemas before, from 1."""


def has_current_columns(path: Path) -> bool:
    """Tell whether a results file begins with the header that is written now, so that rows can be added to it."""
    with path.open(encoding="utf-8-sig") as file:
        return file.readline() == HEADER


def append(path: Path, records: Iterable[Record]) -> None:
    """Append each record as one whole line, written at once and flushed to the disk."""
    with path.open("ab") as file:
        for record in records:
            # Names of files may hold bytes that are no text; a row must not be lost to them.
            file.write(line(record.columns().values()).encode(errors="replace"))
            file.flush()
        os.fsync(file.fileno())
