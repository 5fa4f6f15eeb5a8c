"""NPY and Zarr files larger than memory: of one array with the target among its columns, or of one array for each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np

from gradkernels.names import unknown
from gradkernels.problems.data.selection import ColumnChoice

BLOCK_BYTES = 2**26
"""Of a block of a file that has none of its own."""


@dataclass(frozen=True)
class MemoryMap:
    """The array of an NPY file, mapped anew where a part of it is asked for: only the path travels to workers.

    Attributes:
        path: Of the file.
        shape: Of the array.
        dtype: Of the array.
        written: When the file was, in nanoseconds: what is computed of another one has another name.
    """

    path: str
    shape: tuple[int, ...]
    dtype: Any
    written: int

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __getitem__(self, part: Any) -> Any:
        """Return a part, which is read as it is used."""
        return np.asarray(_mapped(self.path)[part])


def read_npy(path: str, choice: ColumnChoice, target: Any, dtype: str) -> tuple[Any, Any]:
    """Open an NPY file of features and another one of targets, or one with the targets in a column.

    Args:
        path: Of the features.
        choice: Which columns are what: nothing, since they have no names.
        target: Path of another file, as it is or beside the first, or the number of a column.
        dtype: Of the features.
    """
    array = _blocks_of(path)
    if isinstance(target, str):
        beside = Path(path).parent / target
        targets = _blocks_of(str(beside if beside.exists() else target))
        return _as_numbers(path, array, dtype), _target(target, targets, array.chunks[0], dtype)
    return _split(path, array, target, dtype)


def read_zarr(path: str, choice: ColumnChoice, target: Any, dtype: str) -> tuple[Any, Any]:
    """Open a Zarr group with arrays of features and of targets, or one array with the targets in a column.

    Args:
        path: Of the group or array.
        choice: Names of the arrays.
        target: Name of the array of targets, or the number of a column.
        dtype: Of the features.
    """
    try:
        import zarr
    except ImportError:
        raise ValueError(f"reading {path} needs zarr: pip install 'gradkernels[dask]'") from None
    store = zarr.open(path, mode="r")
    if isinstance(store, zarr.Array):
        return _split(path, da.from_zarr(path), target, dtype)
    names = sorted(name for name, _ in store.arrays())
    if choice.target is None or choice.target not in names:
        if choice.target is not None:
            raise ValueError(f"{path}: {unknown('array', choice.target, names)}")
        raise ValueError(f"{path} has the arrays {', '.join(names)}; which are the targets? Pass target=")
    others = list(choice.features) or [name for name in names if name not in (choice.target, *choice.ignored)]
    if len(others) != 1 or others[0] not in names:
        raise ValueError(f"{path} has the arrays {', '.join(names)}; name that of the features with features=[...]")
    x = _as_numbers(path, da.from_zarr(path, component=others[0]), dtype)
    return x, _target(choice.target, da.from_zarr(path, component=choice.target), x.chunks[0], dtype)


def _mapped(path: str) -> Any:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise FileNotFoundError(f"there is nothing at {path}") from None
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path} is not an NPY file of numbers that can be mapped: {error}") from None


def _blocks_of(path: str) -> da.Array:
    array = _mapped(path)
    row = max(1, array.nbytes // max(1, len(array))) if array.ndim else 1
    chunks = (max(1, BLOCK_BYTES // row), *array.shape[1:]) if array.ndim else ()
    file = MemoryMap(path, array.shape, array.dtype, Path(path).stat().st_mtime_ns)
    meta = np.empty((0,) * array.ndim, array.dtype)
    return da.from_array(file, chunks=chunks, inline_array=True, asarray=False, meta=meta)


def _split(path: str, array: da.Array, target: Any, dtype: str) -> tuple[da.Array, da.Array]:
    """Return features and target of an array that has both."""
    array = _as_numbers(path, array, array.dtype)
    if isinstance(target, bool) or not isinstance(target, int | np.integer):
        raise ValueError(f"{path} is one array; pass target=, the number of a column or the array of targets")
    if array.ndim != 2 or not -array.shape[1] <= target < array.shape[1] or array.shape[1] < 2:
        raise ValueError(f"{path} is {array.shape}; target={target} must be the number of one of its columns")
    column = int(target) % array.shape[1]
    others = [one for one in range(array.shape[1]) if one != column]
    x = _as_numbers(path, array[:, others], dtype)
    return x, _target(path, array[:, column], x.chunks[0], dtype)


def _as_numbers(name: str, array: da.Array, dtype: Any) -> da.Array:
    """Return an array in blocks of whole rows, of a dtype."""
    if array.dtype.kind not in "biuf" or array.ndim not in (1, 2):
        raise ValueError(f"{name} is {array.dtype} {array.shape}; it must hold numbers, (n,) or (n, d)")
    whole = array.rechunk({1: -1}) if array.ndim == 2 else array
    return whole.astype(dtype) if whole.dtype != dtype else whole


def _target(name: str, array: da.Array, rows: tuple[int, ...], dtype: str) -> da.Array:
    """Return targets in blocks of these rows: whole numbers as they are, others of a dtype."""
    if array.dtype.kind not in "biuf" or array.ndim != 1 or array.shape[0] != sum(rows):
        raise ValueError(f"{name} is {array.dtype} {array.shape}; targets must be numbers ({sum(rows)},), as features")
    return array.rechunk((rows,)) if array.dtype.kind in "biu" else array.rechunk((rows,)).astype(dtype)
