"""Parquet and CSV files larger than memory, as one array of features and one of targets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
from dask.layers import ArrayValuesDep
from dask.utils import natural_sort_key

from gradkernels.names import unknown
from gradkernels.problems.data.optional import needs, reason
from gradkernels.problems.data.selection import ColumnChoice


def read_parquet_files(path: str, choice: ColumnChoice, target: Any, dtype: str) -> tuple[Any, Any]:
    """Open Parquet files, a block for each row group, whose lengths the files say.

    Args:
        path: A file, a folder or a glob.
        choice: Which columns are what.
        target: As the caller gave it.
        dtype: Of the features.
    """
    parquet = needs("pyarrow.parquet", "pyarrow", f"reading {path}")
    groups: list[tuple[str, int]] = []
    rows: list[int] = []
    schema: Any = None
    try:
        for name in _files(path, "parquet"):
            with _opened(name) as file:
                metadata, schema = (found := parquet.ParquetFile(file)).metadata, schema or found.schema_arrow
                groups += [(name, i) for i in range(metadata.num_row_groups)]
                rows += [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
        types = [one.to_pandas_dtype() for one in schema.types]
    except Exception as error:  # OSError, pyarrow's own, AttributeError without files: whatever provokes it
        raise ValueError(f"{path} is not Parquet that can be read: {reason(str(error))}") from None
    chosen, whole = _chosen(path, list(schema.names), [np.dtype(one) for one in types], choice)
    chunks = (tuple(rows), (len(chosen),))
    values = {(i, 0): group for i, group in enumerate(groups)}
    table = da.blockwise(
        _row_group, "ij", ArrayValuesDep(chunks, values), "ij", align_arrays=False, dtype=dtype,
        meta=np.empty((0, 0), dtype), names=[schema.names[one] for one in chosen], kind=dtype,
    )  # fmt: skip
    return _split(table, whole)


def _row_group(group: tuple[str, int], names: list[str], kind: str) -> Any:
    """Return some columns of a row group, `(n, columns)`; gaps are NaN."""
    parquet = needs("pyarrow.parquet", "pyarrow", f"reading {group[0]}")
    with _opened(group[0]) as file:
        table = parquet.ParquetFile(file).read_row_group(group[1], columns=names)
    found = np.empty((table.num_rows, len(names)), kind)
    for place, name in enumerate(names):
        found[:, place] = table.column(name).to_numpy()
    return found


def read_csv_files(path: str, choice: ColumnChoice, target: Any, dtype: str) -> tuple[Any, Any]:
    """Open CSV files by dask's own reader; their rows are counted by reading them once.

    Args:
        path: A file, a folder or a glob.
        choice: Which columns are what.
        target: As the caller gave it.
        dtype: Of the features.
    """
    frames = needs("dask.dataframe", "pandas", f"reading {path}")
    try:
        frame = frames.read_csv(f"{path}/*.csv" if Path(path).is_dir() else path)
    except Exception as error:  # OSError, pandas' own: whatever a damaged or missing file provokes
        raise ValueError(f"{path} is not CSV that can be read: {reason(str(error))}") from None
    chosen, whole = _chosen(path, [str(one) for one in frame.columns], [*frame.dtypes], choice)
    columns = frame[[frame.columns[one] for one in chosen]]
    return _split(columns.astype(dtype).to_dask_array(lengths=True), whole)


def _files(path: str, kind: str) -> list[str]:
    """Return the names of the files that a path means, in order."""
    system, root = needs("fsspec.core", "fsspec", f"reading {path}").url_to_fs(path)
    if "*" in root:
        found = system.glob(root)
    else:
        found = [one for one in system.find(root) if one.endswith(f".{kind}")] if system.isdir(root) else [root]
    return [system.unstrip_protocol(name) for name in sorted(found, key=natural_sort_key)]


def _opened(name: str) -> Any:
    return needs("fsspec", "fsspec", f"reading {name}").open(name, "rb")


def _chosen(path: str, names: list[str], types: list[Any], choice: ColumnChoice) -> tuple[list[int], bool]:
    """Return the positions of features and target, the target last, and whether it holds whole numbers."""
    if choice.target is None:
        raise ValueError(f"{path}: which column is to be predicted? Pass target=, one of {', '.join(names[:20])}")
    if choice.target not in names:
        raise ValueError(f"{path}: {unknown('column', choice.target, names)}")
    place = names.index(choice.target)
    chosen = [*choice.columns(path, names, place), place]
    for one in chosen:
        if getattr(types[one], "kind", "O") not in "biuf":
            hint = "turn it into numbers, or leave it out with ignore="
            raise ValueError(f"{path}: column {names[one]!r} holds {types[one]}; {hint}")
    return chosen, types[place].kind in "iu"


def _split(table: da.Array, whole: bool) -> tuple[da.Array, da.Array]:
    y = table[:, -1]
    return table[:, :-1], y.map_blocks(_whole, dtype="int64", meta=np.empty(0, np.int64)) if whole else y


def _whole(target: Any) -> Any:
    if np.isnan(target).any():
        raise ValueError("the target has gaps among whole numbers; leave out such rows, or fill them")
    return target.astype(np.int64)
