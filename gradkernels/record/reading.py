"""Results files back into records, by the rules that every command reads by; a fault is named by line and column."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from gradkernels.names import counted, harmless
from gradkernels.record.blocks import row_identity
from gradkernels.record.row import ADDED, COLUMNS, DERIVED, FIRST_COLUMNS, KINDS, SCHEMA, Measurement, Record, derived

BYTE_ORDER_MARK = "\ufeff"
LEAST = dict.fromkeys(("schema", "cores", "threads", "n", "features", "pass", "rounds", "iterations", "block"), 1)
"""The least value of whole numbers that cannot be 0."""

ASCENDING = ("seconds_min", "seconds_q25", "seconds_median", "seconds_q75")
"""Times of which none is above the next."""

_MOST = 2**63
_EXACT = 2**53
"""Up to here every whole number is a float."""

_TRUTHS = {"true": True, "false": False}
_PLAIN = re.compile(r"[-+.0-9a-zA-Z]+")
_OLD_MAC = "ends in a carriage return alone; save the file with LF or CRLF at the ends of lines"


class Malformed(ValueError):
    """A results file that cannot be read; the message names the file, the line and the column."""


def read(path: str | Path) -> list[Record]:
    """Read the records of a results file, or of several that were concatenated.

    Raises:
        Malformed: Not a results file, a row that breaks its rules, or a row that is there twice; names the line and
            the column.
        OSError: The file cannot be opened.
    """
    path = Path(path)
    require_file(path)
    text = decoded(path, path.read_bytes())
    records: list[Record] = []
    first: dict[tuple[object, ...], int] = {}
    for number, record in parse(path, text.removeprefix(BYTE_ORDER_MARK)):
        if (other := first.setdefault(row_identity(record), number)) != number:
            raise twice(record, f"{path}, line {other}", f"{path}, line {number}")
        records.append(record)
    return records


def require_file(path: Path) -> None:
    """Refuse a device, which may never end."""
    if path.is_char_device():
        raise Malformed(f"{path}: a device; this is not a results file")


def decoded(path: Path, raw: bytes, start: int = 0) -> str:
    """Return the text of a file, or of a part of it.

    Args:
        path: The file, for the message.
        raw: Its bytes.
        start: How many bytes of the file come before them.
    """
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        where = start + error.start
        raise Malformed(f"{path}: not UTF-8 text at byte {where}; this is not a results file") from None


def twice(record: Record, one: str, other: str) -> Malformed:
    """Return what to raise for a measurement that is there twice.

    Args:
        record: The measurement.
        one: Where its first row is, file and line.
        other: Where its second row is.
    """
    what = f"kernel {record.kernel} of {record.case.described('=')} for run {record.run}, pass {record.pass_}"
    return Malformed(f"{one}, and {other} both hold {what}; keep one of the two rows")


def parse(path: Path, text: str, header: Sequence[str] | None = None, before: int = 0) -> Iterator[tuple[int, Record]]:
    """Yield the records in a text and the lines that they are on.

    Args:
        path: The file, for messages.
        text: Of a whole file, or of lines in its middle.
        header: The columns, if the text is from the middle; None where it begins with them.
        before: How many lines of the file come before the text.

    Raises:
        Malformed: As for `read`; a row that is there twice is no fault here.
    """
    lines = csv.reader(_unbroken(io.StringIO(text, newline=""), path, before), strict=True)
    try:
        if header is None:
            header = require_header(next(lines, []), f"{path}, line {before + 1}")
        if not text.endswith("\n") and text.count("\r") == text.count("\r\n") + text.endswith("\r"):
            raise cut_off(path, before + text.count("\n") + 1)
        for row in lines:
            where = f"{path}, line {before + lines.line_num}"
            if row and row[0].removeprefix(BYTE_ORDER_MARK) == COLUMNS[0]:
                header = require_header([COLUMNS[0], *row[1:]], where)
            elif row:  # a blank line holds nothing that could be wrong
                yield before + lines.line_num, _record(row, header, where)
    except csv.Error as error:
        raise Malformed(f"{path}, line {before + lines.line_num}: {error}") from None


def cut_off(path: Path, number: int) -> Malformed:
    """Return what to raise for a last line, of this number, without an end."""
    return Malformed(f"{path}, line {number}: cut off; `gradkernels run --resume` mends it")


def _unbroken(lines: Iterable[str], path: Path, before: int) -> Iterator[str]:
    """Yield lines; refuse those that end in CR alone, which an even number of quotes before it does not quote."""
    quotes = 0
    for number, line in enumerate(lines, before + 1):
        quotes += line.count('"')
        if line.endswith("\r") and not quotes % 2:
            raise Malformed(f"{path}, line {number}: {_OLD_MAC}")
        yield line


def require_header(row: list[str], where: str) -> list[str]:
    """Return the columns of a file, of any schema so far; those that a newer version added at the end may follow.

    Args:
        row: The cells of its first line.
        where: File and line, for the message.

    Raises:
        Malformed: They are not those of a results file.
    """
    for position, wanted in enumerate(COLUMNS[: max(len(row), FIRST_COLUMNS)]):
        given = repr(row[position]) if position < len(row) else "missing"
        if given != repr(wanted):
            raise Malformed(f"{where}: column {position + 1} is {given}, expected {wanted!r}; {_no_header(row)}")
    return row


def _no_header(row: list[str]) -> str:
    if row[1:2] == [COLUMNS[0]]:
        return "that is the index of a DataFrame, which to_csv(index=False) leaves out"
    if row and row[0].startswith((f"{COLUMNS[0]};", f"{COLUMNS[0]}\t")):
        return "save the file with commas between its columns"
    if row and row[0].startswith(("{", "[")):
        return "this is not a results file; `gradkernels import` reads JSON of other tools"
    return "this is not a results file"


def _record(row: list[str], header: Sequence[str], where: str) -> Record:
    if len(row) != len(header):
        raise Malformed(f"{where}: {counted(len(row), 'column')}, expected {len(header)}")
    schema = value_of("schema", row[0], where)
    cells = [(name, text) for name, text in zip(COLUMNS, row, strict=False) if text or ADDED.get(name, 1) <= schema]
    values = {name: value_of(name, text, where) for name, text in cells}
    _require_derived(values, where)
    try:
        record = Record.of(values)
    except ValueError as error:
        raise Malformed(f"{where}, column status: {error}") from None
    _require_plausible(record.measurement, where)
    return record


def value_of(column: str, text: str, where: str) -> Any:
    """Return the value of a cell; None for an empty one that may be empty.

    Args:
        column: Its name.
        text: What it holds.
        where: File and line, for the message.

    Raises:
        Malformed: It holds no value of that column.
    """
    kind, _, optional = KINDS[column].partition(" | ")
    if not text and optional:
        return None
    if kind == "float":
        text = text.strip(" \t")
    try:
        value = _READ[kind](text)
    except (ValueError, KeyError):
        raise Malformed(f"{where}, column {column}: {text!r} is not {_CALLED[kind]}") from None
    # Python reads 1_000, ١ and a padded 1 as numbers; no writer of results does.
    if kind in ("int", "float") and not _PLAIN.fullmatch(text):
        raise Malformed(f"{where}, column {column}: {text!r} is not a plain number")
    if kind == "int" and not LEAST.get(column, 0) <= value < _MOST:
        raise Malformed(f"{where}, column {column}: {text} is too {'large' if value >= _MOST else 'small'}")
    if column == "schema" and value > SCHEMA:
        fault = f"{text} is newer than {SCHEMA}, the newest that this gradkernels knows; update it to read the file"
        raise Malformed(f"{where}, column schema: {fault}")
    return value


def _whole(text: str) -> int:
    """Return a whole number, also where it was kept as a float, as pandas does in a column with gaps: 262144.0."""
    digits, _, fraction = text.partition(".")
    number = int(digits)
    if fraction.strip("0") or (fraction and abs(number) > _EXACT):
        raise ValueError(text)
    return number


_READ: dict[str, Callable[[str], Any]] = {
    "int": _whole,
    "float": float,
    "str": harmless,
    "bool": lambda text: _TRUTHS[text.lower()],
}
_CALLED = {"int": "a number", "float": "a number", "bool": "True or False"}


def _require_derived(values: Mapping[str, Any], where: str) -> None:
    """Refuse columns that contradict the kernel that they follow from."""
    wanted = derived(values["kernel"])
    for name in DERIVED.keys() & values.keys():
        if values[name] != wanted[name]:
            fault = f"{values[name]!r} is given, but it is {wanted[name]!r} of kernel {values['kernel']!r}"
            raise Malformed(f"{where}, column {name}: {fault}; correct one of the two")


def _require_plausible(measurement: Measurement, where: str) -> None:
    """Refuse times that contradict each other."""
    limit = measurement.limit_seconds
    if limit is not None and not 0 < limit < math.inf:
        raise Malformed(f"{where}, column limit_seconds: {limit} is no positive time")
    known = [(name, value) for name in ASCENDING if (value := getattr(measurement, name)) is not None]
    for (low, less), (high, more) in pairwise(known):
        if less > more:
            raise Malformed(f"{where}, column {low}: {less} is above {high}, which is {more}")
