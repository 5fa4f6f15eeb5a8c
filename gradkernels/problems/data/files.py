"""Reading a person's file of numbers: CSV, Parquet or NPZ into named columns, and every refusal in one sentence.

Cells are not looked at here; `gradkernels.problems.data.table` checks them, the same for every kind of file.
"""

from __future__ import annotations

import csv
import importlib
import io
import itertools
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np

from gradkernels.names import counted
from gradkernels.problems.data.table import Table, Values


def read_table(path: Path) -> Table:
    """Read the table in `path`, whose extension says what kind of file it is.

    Raises:
        OSError: The file is not there or cannot be read.
        ValueError: Unknown extension; not a file of that kind; damaged, empty, or without a usable header.
    """
    kind = path.suffix.lower()
    if kind not in READERS:
        raise ValueError(
            f"{path} has {f'extension {kind}' if kind else 'no extension'}; data files end in {', '.join(READERS)}"
        )
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise type(error)(f"cannot read {path}: {error.strerror}") from None
    if not raw.strip():
        raise ValueError(f"{path.name} is empty; it needs a target, at least one feature and at least one row")
    return READERS[kind](path.name, raw)


def needs(module: str, package: str, what: str) -> ModuleType:
    """Import an optional library, or say which extra brings it.

    Args:
        module: Name to import.
        package: Its distribution.
        what: For which it is needed, for the message.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        raise ValueError(f"{what} needs {package}: pip install 'gradkernels[data]'") from None


def _csv(name: str, raw: bytes) -> Table:
    pandas = needs("pandas", "pandas", f"reading {name}")
    try:
        # One kind of line end: pandas loses empty rows after a blank line that ends in a bare carriage return.
        text = raw.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{name} is not UTF-8 text (byte {error.start + 1}); save it as UTF-8") from None
    header = _header(name, text)
    try:
        frame = pandas.read_csv(io.StringIO(text), low_memory=False, index_col=False, skipinitialspace=True)
    except ValueError as error:
        raise ValueError(_csv_fault(name, text, header, str(error))) from None
    values = tuple(frame.iloc[:, position].to_numpy() for position in range(len(header)))
    return Table(name, header, values, lambda row: f"row {row + 1} (line {_line(name, text, row)})")


def _rows(name: str, text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield rows that are not blank, with the line that each starts on, counted from 1."""
    lines = csv.reader(io.StringIO(text, newline=""), skipinitialspace=True)
    start = 1
    try:
        for row in lines:
            if len(row) > 1 or (row and row[0].strip()):
                yield start, row
            start = lines.line_num + 1
    except csv.Error as error:
        raise ValueError(f"{name} is not a CSV file that can be read, line {start}: {error}") from None


def _header(name: str, text: str) -> tuple[str, ...]:
    """Read column names without surrounding spaces, here because pandas renames duplicates.

    Raises:
        ValueError: The first row is longer than the header: pandas would drop a field.
    """
    rows = _rows(name, text)
    header = tuple(field.strip() for field in next(rows, (1, []))[1])
    line, first = next(rows, (1, []))
    if len(first) > len(header):
        raise ValueError(_too_long(name, line, first, header))
    return header


def _line(name: str, text: str, row: int) -> int:
    return next(itertools.islice(_rows(name, text), row + 1, None))[0]


def _csv_fault(name: str, text: str, header: tuple[str, ...], otherwise: str) -> str:
    for line, row in _rows(name, text):
        if len(row) > len(header):
            return _too_long(name, line, row, header)
    return f"{name} is not a CSV file that can be read: {_reason(otherwise)}"


def _too_long(name: str, line: int, row: list[str], header: tuple[str, ...]) -> str:
    fields = counted(len(row), "field")
    return f"{name}: line {line} has {fields}, the header has {len(header)}; quote fields that hold a comma"


def _parquet(name: str, raw: bytes) -> Table:
    parquet = needs("pyarrow.parquet", "pyarrow", f"reading {name}")
    try:
        table = parquet.ParquetFile(io.BytesIO(raw)).read()
        kept = [i for i, column in enumerate(table.column_names) if not _is_pandas_index(column)]
        values = tuple(table.column(i).to_numpy() for i in kept)
    except Exception as error:  # pyarrow's own errors, OSError, NotImplementedError: whatever a damaged file provokes
        raise ValueError(f"{name} is not a Parquet file that can be read: {_reason(str(error))}") from None
    return Table(name, tuple(table.column_names[i] for i in kept), values, _row)


def _is_pandas_index(column: str) -> bool:
    return column.startswith("__index_level_") and column.endswith("__")


def _npz(name: str, raw: bytes) -> Table:
    if not zipfile.is_zipfile(io.BytesIO(raw)):
        raise ValueError(f"{name} is not an NPZ file, or is cut off; write it with numpy.savez")
    try:
        with np.load(io.BytesIO(raw), allow_pickle=False) as archive:
            arrays = [(key, np.asarray(archive[key])) for key in archive.files]
    except Exception as error:  # zipfile, zlib, tokenize, struct: whatever a damaged file provokes
        raise ValueError(f"{name} is not an NPZ file that can be read: {_reason(str(error))}") from None
    return _columns_of(name, arrays)


def _columns_of(name: str, arrays: list[tuple[str, Values]]) -> Table:
    """Take a `(n,)` array for one column, a `(n, d)` array for d columns called `x[0]`, `x[1]`, ..."""
    lengths = {len(array) if array.ndim in (1, 2) and 0 not in array.shape[1:] else None for _, array in arrays}
    if len(lengths) != 1 or None in lengths:
        shapes = ", ".join(f"{key} {array.shape}" for key, array in arrays) or "none"
        raise ValueError(f"the arrays of {name} are {shapes}; allowed are (n,) and (n, d), all with the same n")
    columns: list[tuple[str, Values]] = []
    for key, array in arrays:
        block = array if array.ndim == 2 else array[:, None]
        parts = [key] if block.shape[1] == 1 else [f"{key}[{i}]" for i in range(block.shape[1])]
        columns += zip(parts, block.T, strict=True)
    names = tuple(key for key, _ in columns)
    target = "y" if "y" in names and {key for key, _ in arrays} == {"x", "y"} else None
    return Table(name, names, tuple(values for _, values in columns), _row, target)


def _row(row: int) -> str:
    return f"row {row + 1}"


def _reason(message: str) -> str:
    """Return the first sentence of a library's message, as the end of one of ours."""
    lines = message.removeprefix("Error tokenizing data. C error: ").strip().splitlines() or ["damaged"]
    return lines[0].partition(". ")[0].rstrip(".")


READERS: dict[str, Callable[[str, bytes], Table]] = {".csv": _csv, ".parquet": _parquet, ".npz": _npz}
"""What can be read, by extension."""
