"""A results file in parts of whole lines, each below one header."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from gradkernels.record import COLUMNS
from gradkernels.record.reading import BYTE_ORDER_MARK, decoded, parse, require_file, require_header

PART_BYTES = 2**22
_MOST_HEADER_BYTES = 2**16
_LF, _QUOTE = b'\n"'
_MAY_HEAD = np.isin(np.arange(256), [*COLUMNS[0][:1].encode(), *b'"', BYTE_ORDER_MARK.encode()[0]])
"""Whether a line may be a header, by its first byte: few others need be looked at."""


@dataclass(frozen=True)
class Part:
    """Lines of a file.

    Attributes:
        path: The file.
        lines: Whole lines, none of them a header; only the last of a file may lack its end.
        header: The columns that they have.
        before: How many lines of the file come before them.
        start: How many bytes of it do.
    """

    path: Path
    lines: bytes
    header: Sequence[str]
    before: int
    start: int


def parts(path: Path) -> Iterator[Part]:
    """Yield the rows of a file in parts.

    Raises:
        Malformed: Not a results file.
        OSError: The file cannot be opened.
    """
    require_file(path)
    with path.open("rb") as file:
        first = file.readline(_MOST_HEADER_BYTES)
        header = _first_header(path, first)
        yield from (part for part in _below(path, file, header, len(first)) if part.lines)


def _first_header(path: Path, first: bytes) -> list[str]:
    text = decoded(path, first).removeprefix(BYTE_ORDER_MARK)
    list(parse(path, text))  # a fault of the first line, or of its end, is raised here
    return next(csv.reader([text]))


def _cells(path: Path, line: str, number: int) -> list[str]:
    first, *others = next(csv.reader([line]))
    return require_header([first.removeprefix(BYTE_ORDER_MARK), *others], f"{path}, line {number}")


def _below(path: Path, file: BinaryIO, header: Sequence[str], start: int) -> Iterator[Part]:
    """Yield what is below the first header, of `start` bytes."""
    rest, before = b"", 1
    while chunk := file.read(PART_BYTES):
        whole = _whole(chunk, rest.count(b'"') % 2)
        text = b"".join((rest, memoryview(chunk)[:whole])) if whole else b""
        rest = chunk[whole:] if whole else rest + chunk
        for lines in _at_headers(text):
            if _heads(lines):
                first = lines[: lines.find(b"\n") + 1]
                header = _cells(path, decoded(path, first, start), before + 1)
                lines, before, start = lines[len(first) :], before + 1, start + len(first)
            yield Part(path, lines, header, before, start)
            before, start = before + _ends(lines), start + len(lines)
    yield Part(path, rest, header, before, start)


def _whole(text: bytes, quoted: int) -> int:
    """Return how many bytes of a text end with a line; breaks in quotes end none.

    Args:
        text: Of a file.
        quoted: 1 if it begins within quotes, else 0.
    """
    last = text.rfind(b"\n") + 1
    raw = np.frombuffer(text, np.uint8)
    if np.count_nonzero(raw[:last] == _QUOTE) % 2 == quoted:
        return last
    ends = np.flatnonzero(raw == _LF)
    outside = ends[np.searchsorted(np.flatnonzero(raw == _QUOTE), ends) % 2 == quoted]
    return int(outside[-1]) + 1 if len(outside) else 0


def _at_headers(text: bytes) -> Iterator[bytes]:
    """Yield a text of whole lines in pieces, of which each but the first begins with a header."""
    raw, begin = np.frombuffer(text, np.uint8), 0
    after = np.flatnonzero(raw[:-1] == _LF) + 1
    for at in after[_MAY_HEAD[raw[after]]].tolist():
        if _heads(text[at : at + _MOST_HEADER_BYTES]) and text.count(b'"', 0, at) % 2 == 0:
            yield text[begin:at]
            begin = at
    yield text[begin:]


def _heads(lines: bytes) -> bool:
    """Tell whether lines begin with a header, as far as its first cell tells."""
    first = lines[: len(COLUMNS[0]) + 6].removeprefix(BYTE_ORDER_MARK.encode())
    return first.startswith((f"{COLUMNS[0]},".encode(), f'"{COLUMNS[0]}",'.encode()))


def _ends(lines: bytes) -> int:
    """Return how many lines end in a text, as the csv module counts them."""
    count = int(np.count_nonzero(np.frombuffer(lines, np.uint8) == _LF))  # in a third of the time of bytes.count
    return count + lines.count(b"\r") - lines.count(b"\r\n") if b"\r" in lines else count
