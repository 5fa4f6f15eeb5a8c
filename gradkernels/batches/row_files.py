"""Rows of batches in a file that grows with them: what any kind of file does, and NPY."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_NB, flock
from io import BytesIO, RawIOBase
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from gradkernels.backend import Array, backend_of
from gradkernels.batches.row_memory import RowSink
from gradkernels.row_norms import wide
from gradkernels.tree import Tree

HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


class RowFile(RowSink):
    """A file of rows.

    Attributes:
        path: Where it is.
        row: Dtype and shape of a row; empty where there is none yet.
    """

    row = ""

    def __init__(self, path: Path) -> None:
        self.path = path

    @abstractmethod
    def resume(self, rows: int, row: str) -> None:
        """Go on behind so many rows of a file that is there; what it has behind them is cut off."""

    def changed(self, rows: int, row: str) -> ValueError:
        """Return what is to be said of a file that has not the rows that were noted."""
        return ValueError(f"{self.path} has fewer than {rows:,} rows of {row}; it was changed: delete it and what is "
                          "beside it, and begin anew")  # fmt: skip

    @abstractmethod
    def settle(self) -> None:
        """Have the file say how many rows it has."""

    @abstractmethod
    def sync(self) -> None:
        """Have the disk hold what was written; another thread may write more meanwhile."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the file."""

    def require_fit(self, found: tuple[Any, tuple[int, ...]], array: Array) -> None:
        """Raise a ValueError where rows are other than those that the file has.

        Args:
            found: Dtype and shape of a row there.
            array: Rows of a batch.
        """
        if (given := (array.dtype, array.shape[1:])) != found:
            raise ValueError(f"{self.path} has rows of {found[0]} {found[1]} and those of this batch are of {given[0]} "
                             f"{given[1]}; write them to another file")  # fmt: skip


class NpyRows(RowFile):
    """An NPY file, whose header has room for the number of rows to grow."""

    _file: RawIOBase | None = None
    _dtype: np.dtype[Any]
    _row: tuple[int, ...]
    _start: int

    def resume(self, rows: int, row: str) -> None:
        """Go on behind so many rows of the file."""
        file = self._opened("r+b")
        try:
            shape, fortran, self._dtype = HEADERS[np.lib.format.read_magic(file)](file)
        except (ValueError, KeyError):
            raise self.changed(rows, row) from None
        self._start, self._row, self.rows = file.tell(), shape[1:], rows
        self.row = f"{self._dtype} {self._row}"
        if fortran or self.row != row or os.fstat(file.fileno()).st_size < self._end:
            raise self.changed(rows, row)
        file.truncate(self._end)

    def write(self, result: Tree) -> None:
        """Put a batch's rows behind those that are there."""
        array = host(result)
        if self._file is None:
            self._begin(array)
        assert self._file is not None
        self.require_fit((self._dtype, self._row), array)
        with naming_the_way_on(self.path):
            self._file.seek(self._end)
            _write_all(self._file, memoryview(array.reshape(-1).view(np.uint8)))
        self.rows += len(array)

    def settle(self) -> None:
        """Have the file say how many rows it has."""
        if self._file is not None:
            with naming_the_way_on(self.path):
                self._write_header()

    def sync(self) -> None:
        """Have the disk hold what was written; another thread may write more meanwhile."""
        if self._file is not None:
            with naming_the_way_on(self.path):
                os.fsync(self._file.fileno())

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()

    def finish(self) -> Any:
        """Return all rows as a memory map that is only read."""
        self.settle()
        self.close()
        return np.load(self.path, mmap_mode="r", allow_pickle=False)

    @property
    def _end(self) -> int:
        return self._start + self.rows * prod(self._row) * self._dtype.itemsize

    def _begin(self, array: Array) -> None:
        self._file = self._opened("w+b")
        self._dtype, self._row = array.dtype, array.shape[1:]
        self.row = f"{self._dtype} {self._row}"
        self._write_header()
        self._start = self._file.tell()

    def _write_header(self) -> None:
        assert self._file is not None
        shape = self.rows, *self._row
        header = {"descr": np.lib.format.dtype_to_descr(self._dtype), "fortran_order": False, "shape": shape}
        written = BytesIO()
        np.lib.format.write_array_header_1_0(written, header)
        self._file.seek(0)
        _write_all(self._file, memoryview(written.getvalue()))

    def _opened(self, mode: str) -> RawIOBase:
        with naming_the_way_on(self.path):
            self._file = file = open(self.path, mode, buffering=0)  # type: ignore[assignment] # noqa: SIM115
        assert file is not None
        try:
            flock(file, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            file.close()
            raise ValueError(f"{self.path} is written to by another process; wait for it, or choose another file")\
                from None  # fmt: skip
        return file  # type: ignore[return-value]


def _write_all(file: RawIOBase, data: memoryview) -> None:
    """Write everything, or raise what the system says of the rest."""
    while len(data):
        data = data[file.write(data) :]


def host(result: Tree) -> Array:
    """Return a batch's rows as numpy has them, in C order; half precision as float32."""
    library = backend_of(result)
    if library is None:
        raise TypeError(f"the rows are a {type(result).__name__} of several arrays; a file has one: leave out out=")
    return np.ascontiguousarray(library.get(wide(result)))


@contextmanager
def naming_the_way_on(path: Path) -> Iterator[None]:
    """Have an error of the system say how to go on."""
    try:
        yield
    except OSError as error:
        says = (
            f"{error.strerror or error}; the batches before stay: make room and call again, and it goes on behind them"
        )
        raise OSError(error.errno, says, str(path)) from error
