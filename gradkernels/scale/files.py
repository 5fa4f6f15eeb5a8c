"""Files that are larger than memory, opened as dask arrays: features and target in blocks that are read when needed."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from gradkernels.problems.data.selection import ColumnChoice
from gradkernels.scale.array_files import read_npy, read_zarr
from gradkernels.scale.tables import read_csv_files, read_parquet_files

Read = Callable[[str, ColumnChoice, Any, str], tuple[Any, Any]]
"""`read(path, choice, target, dtype)`, the lazy `(x, y)`."""

FILE_READERS: dict[str, Read] = {
    ".parquet": read_parquet_files,
    ".csv": read_csv_files,
    ".zarr": read_zarr,
    ".npy": read_npy,
}
"""What reads a kind of file, by the end of its name."""

_ZARR = ("zarr.json", ".zgroup", ".zarray")


def open(
    path: str | os.PathLike[str],
    target: Any = None,
    *,
    features: Sequence[str] = (),
    ignore: Sequence[str] = (),
    dtype: str = "float64",
) -> tuple[Any, Any]:
    """Open files as dask arrays `(x, y)` with blocks of known length, which are read when something is computed.

    Blocks are row groups of Parquet, parts of CSV files (which are read once to count their rows), chunks of Zarr, and
    about 64 MiB of a memory map of NPY.

    Args:
        path: A file, a folder of them, or a glob: `rows/*.parquet`; of what fsspec opens for Parquet, CSV and Zarr.
        target: The column to predict, by its name in Parquet and CSV; the array of a Zarr group by its name, another
            NPY file, or the number of a column of one array.
        features: Names or globs of the columns that are features, or the name of the array; none for all others.
        ignore: Names or globs of columns that are neither.
        dtype: Of features, and of targets that are no whole numbers: `float64` or `float32`, as theta has it.

    Raises:
        ValueError: A kind of file that is not known, no target or none of that name, a column that holds no numbers.
        FileNotFoundError: There is nothing at that path.
    """
    name = os.fspath(path)
    choice = ColumnChoice(target if isinstance(target, str) else None, tuple(features), tuple(ignore))
    return FILE_READERS[_kind(name)](name, choice, target, dtype)


def _kind(name: str) -> str:
    """Return the ending by which a path's files are read."""
    folder = Path(name)
    if folder.suffix in FILE_READERS:
        if "://" not in name and "*" not in name and not folder.exists():
            raise FileNotFoundError(f"there is nothing at {name}")
        return folder.suffix
    if not folder.is_dir():
        problem = "is no kind of file that is known" if folder.exists() else "is no file or folder"
        raise ValueError(
            f"{name} {problem}; known are {', '.join(FILE_READERS)}, folders of them and globs with their end"
        )
    if any((folder / marker).exists() for marker in _ZARR):
        return ".zarr"
    found = {kind for kind in (".parquet", ".csv") if any(folder.rglob(f"*{kind}"))}
    if len(found) != 1:
        given = " and ".join(sorted(found)) or "no .parquet and no .csv"
        raise ValueError(f"the folder {name} has {given} files; name those that are meant with a glob: {name}/*.csv")
    return found.pop()
