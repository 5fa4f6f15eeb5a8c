"""Reading a person's file of numbers into named columns, whatever its kind, and every refusal in one sentence.

Cells are not looked at here; `gradkernels.problems.data.table` checks them, the same for every kind of file.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

from gradkernels.problems.data.binary import read_archive, read_feather, read_parquet, read_spreadsheet
from gradkernels.problems.data.csv_text import read_separated, separator
from gradkernels.problems.data.table import Table

TEXT = {".csv": ",", ".tsv": "\t"}
"""Kinds of text, and the sign between their columns where no other is named; each may be compressed too: `.csv.gz`."""

READERS: dict[str, Callable[[str, bytes], Table]] = {
    ".parquet": read_parquet,
    ".feather": read_feather,
    ".npz": read_archive,
    ".xlsx": read_spreadsheet,
}
"""What reads other kinds."""

ZIPPED = ".gz"
KINDS_OF_FILE = (*TEXT, *(kind + ZIPPED for kind in TEXT), *READERS)
"""What data files end in."""


def read_table(path: Path, sep: str | None = None) -> Table:
    """Read the table in `path`, whose extension says what kind of file it is.

    Args:
        path: The file; `~` stands for the home folder.
        sep: The sign between columns of text; None for that of the kind.

    Raises:
        OSError: The file is not there or cannot be read.
        ValueError: Unknown extension; not a file of that kind; damaged, empty, or without a usable header.
    """
    path = path.expanduser()
    zipped = path.suffix.lower() == ZIPPED
    kind = (Path(path.stem) if zipped else path).suffix.lower()
    if kind not in TEXT and (zipped or kind not in READERS):
        given = f"extension {kind + ZIPPED * zipped}" if path.suffix else "no extension"
        raise ValueError(f"{path} has {given}; data files end in {', '.join(KINDS_OF_FILE)}")
    if sep is not None and kind not in TEXT:
        raise ValueError(f"--sep {sep!r} (sep=) is for text; {path.name} has its columns apart already")
    sign = separator(TEXT.get(kind, ",") if sep is None else sep)
    read = partial(read_separated, sign=sign) if kind in TEXT else READERS[kind]
    raw = _content(path, zipped)
    if not raw.strip():
        raise ValueError(f"{path.name} is empty; it needs a target, at least one feature and at least one row")
    return read(path.name, raw)


def _content(path: Path, zipped: bool) -> bytes:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise type(error)(f"cannot read {path}: {error.strerror}") from None
    try:
        return gzip.decompress(raw) if zipped else raw
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path.name} is not a file that gzip made, or is cut off ({error})") from None
