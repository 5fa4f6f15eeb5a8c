"""Tables that are no text: Parquet, Feather, spreadsheets and numpy's archives, as named columns."""

from __future__ import annotations

import io
import warnings
import zipfile
from typing import Any

import numpy as np

from gradkernels.problems.data.optional import needs, reason
from gradkernels.problems.data.table import Table, Values


def read_parquet(name: str, raw: bytes) -> Table:
    """Read a table from a Parquet file."""
    parquet = needs("pyarrow.parquet", "pyarrow", f"reading {name}")
    return _arrow(name, "Parquet", lambda: parquet.ParquetFile(io.BytesIO(raw)).read())


def read_feather(name: str, raw: bytes) -> Table:
    """Read a table from a Feather file."""
    feather = needs("pyarrow.feather", "pyarrow", f"reading {name}")
    return _arrow(name, "Feather", lambda: feather.read_table(io.BytesIO(raw)))


def _arrow(name: str, kind: str, read: Any) -> Table:
    try:
        table = read()
        kept = [i for i, column in enumerate(table.column_names) if not _is_pandas_index(column)]
        values = tuple(table.column(i).to_numpy() for i in kept)
    except Exception as error:  # pyarrow's own errors, OSError, NotImplementedError: whatever a damaged file provokes
        raise ValueError(f"{name} is not a {kind} file that can be read: {reason(str(error))}") from None
    return Table(name, tuple(table.column_names[i] for i in kept), values, _row)


def _is_pandas_index(column: str) -> bool:
    return column.startswith("__index_level_") and column.endswith("__")


def read_spreadsheet(name: str, raw: bytes) -> Table:
    """Read the one sheet of an Excel workbook, its first row the names of the columns, formulas as they were saved."""
    openpyxl = needs("openpyxl", "openpyxl", f"reading {name}")
    try:
        with warnings.catch_warnings(action="ignore"):  # of styles, and of what is no cell
            book = openpyxl.load_workbook(io.BytesIO(raw), read_only=True, data_only=True)
            sheets = {sheet.title: _filled(sheet.iter_rows(values_only=True)) for sheet in book.worksheets}
    except Exception as error:  # zipfile, XML, KeyError: whatever a damaged file provokes
        raise ValueError(f"{name} is not an Excel file that can be read: {reason(str(error))}") from None
    filled = {title: rows for title, rows in sheets.items() if rows}
    if len(filled) != 1:
        raise ValueError(f"{name} has {_sheets(list(filled))}; keep one sheet, or save the one that is meant as CSV")
    rows = next(iter(filled.values()))
    width = max(place for _, row in rows for place, cell in enumerate(row, 1) if cell is not None)
    (_, header), *below = [(number, (*row[:width], *[None] * (width - len(row)))) for number, row in rows]
    names = tuple("" if cell is None else str(cell).strip() for cell in header)
    columns = tuple(np.array([row[place] for _, row in below], object) for place in range(width))
    return Table(name, names, columns, lambda row: f"row {row + 1} (line {below[row][0]})")


def _filled(rows: Any) -> list[tuple[int, tuple[Any, ...]]]:
    """Return the rows of a sheet that hold anything, with their numbers."""
    return [(number, row) for number, row in enumerate(rows, 1) if any(cell is not None for cell in row)]


def _sheets(titles: list[str]) -> str:
    return f"sheets {', '.join(titles)}" if titles else "no cells"


def read_archive(name: str, raw: bytes) -> Table:
    """Read the arrays of an NPZ file: `(n,)` for one column, `(n, d)` for d called `x[0]`, `x[1]`, ..."""
    if not zipfile.is_zipfile(io.BytesIO(raw)):
        raise ValueError(f"{name} is not an NPZ file, or is cut off; write it with numpy.savez")
    try:
        with np.load(io.BytesIO(raw), allow_pickle=False) as archive:
            arrays = [(key, np.asarray(archive[key])) for key in archive.files]
    except Exception as error:  # zipfile, zlib, tokenize, struct: whatever a damaged file provokes
        raise ValueError(f"{name} is not an NPZ file that can be read: {reason(str(error))}") from None
    return _columns_of(name, arrays)


def _columns_of(name: str, arrays: list[tuple[str, Values]]) -> Table:
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
