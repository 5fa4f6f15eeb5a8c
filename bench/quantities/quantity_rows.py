"""A row of results/quantities.csv, and the file: one line for each way of each cell, appended as it is measured."""

from __future__ import annotations

import csv
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path

BATCH = "batch"
"""The plain pass, whose row comes last: a cell that has it is complete."""

OK, WRONG, MISSING, REFUSED = "ok", "wrong", "missing", "refused"


@dataclass(frozen=True)
class Found:
    """What was found out about one way of one cell.

    Attributes:
        kernel: Name of the way; BATCH for the plain pass.
        peer: Package and version of another library's; empty for ours.
        status: `ok`, or `wrong`, `missing` or `refused` and a reason after a colon.
        seconds: Of a call, the median.
        ratio: Of its time over that of the plain pass of the same turn, the median over turns.
        ratio_low: Lower quartile of that.
        ratio_high: Upper quartile of that.
        rounds: Turns.
        error: Worst of an entry, relative to the scale of rounding, before and after timing.
        tolerance: What is allowed.
        result_bytes: Size of the result.
    """

    kernel: str
    peer: str
    status: str
    seconds: float | None = None
    ratio: float | None = None
    ratio_low: float | None = None
    ratio_high: float | None = None
    rounds: int | None = None
    error: float | None = None
    tolerance: float | None = None
    result_bytes: int | None = None


@dataclass(frozen=True)
class Row:
    """One line: a cell, what was found, and where.

    Attributes:
        model: Its name.
        parameters: How many it has.
        quantity: The function.
        options: Of the call.
        n: Number of samples.
        threads: Of each way.
        found: Of the way.
        peak_bytes: Memory that a call adds at its highest, its result included.
        memory: That over the plain pass's.
        facts: Machine, versions, commit and start of the process.
    """

    model: str
    parameters: int
    quantity: str
    options: str
    n: int
    threads: int
    found: Found
    peak_bytes: int | None
    memory: float | None
    facts: dict[str, str]

    @property
    def label(self):
        """What was asked: `inner K=8`."""
        return f"{self.quantity} {self.options}".strip()

    @property
    def cell(self):
        """What its ways took turns on."""
        return self.model, self.n, self.label, self.threads

    @property
    def is_ok(self):
        """Whether it has a time."""
        return self.found.status == OK

    def columns(self):
        """Return the values by column."""
        own = {name: value for name, value in vars(self).items() if name not in ("found", "facts")}
        return {**own, **asdict(self.found), **self.facts}


FACTS = ("started", "machine", "versions", "commit")
_OF_ROW = tuple(field.name for field in fields(Row) if field.name not in ("found", "facts"))
_OF_FOUND = tuple(field.name for field in fields(Found))
COLUMNS = (
    *("model", "parameters", "quantity", "options", "n", "kernel", "peer", "status"),
    *("ratio", "ratio_low", "ratio_high", "rounds", "memory", "seconds", "peak_bytes", "result_bytes"),
    *("error", "tolerance", "threads", *FACTS),
)
"""Of the file, in order."""

_KINDS = {field.name: str(field.type) for holder in (Row, Found) for field in fields(holder)}


def read_rows(path: Path) -> list[Row]:
    """Return the rows of a file; none where there is none.

    Raises:
        ValueError: Its columns are others, or a line is cut off.
    """
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise ValueError(f"{path} has the columns {', '.join(reader.fieldnames or ())[:200]}; give another --out")
        return [_row(path, reader.line_num, line) for line in reader]


def _row(path, number, line):
    try:
        values = {name: _value(_KINDS.get(name, "str"), line[name]) for name in COLUMNS}
    except (TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{path}, line {number}: it is cut off, or no row; remove it") from error
    found = Found(**{name: values[name] for name in _OF_FOUND})
    return Row(**{name: values[name] for name in _OF_ROW}, found=found, facts={name: values[name] for name in FACTS})


def _value(kind, text):
    if "None" in kind and text == "":
        return None
    return {"int": int, "float": float, "str": str}[kind.partition(" ")[0]](text)


def append_row(path: Path, row: Row) -> None:
    """Append a row as one whole line; the header before the first."""
    values = row.columns()
    new = not path.exists() or not path.stat().st_size
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        if new:
            writer.writerow(COLUMNS)
        writer.writerow("" if (value := values[name]) is None else _shown(value) for name in COLUMNS)
        file.flush()
        os.fsync(file.fileno())


def _shown(value):
    return f"{value:.6g}" if isinstance(value, float) else " ".join(str(value).splitlines())
