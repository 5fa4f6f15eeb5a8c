"""Rows of batches in an array of Zarr that grows with them."""

from __future__ import annotations

from typing import Any

from gradkernels.batches.row_files import RowFile, host, naming_the_way_on
from gradkernels.tree import Tree

READ_BYTES = 2**26
"""Of a chunk of Zarr, at most, unless a row has more."""


class ZarrRows(RowFile):
    """An array of Zarr, in chunks of a batch's rows."""

    _array: Any = None

    def resume(self, rows: int, row: str) -> None:
        """Go on behind so many rows of the array."""
        self._array = zarr().open_array(str(self.path), mode="r+")
        self.row = f"{self._array.dtype} {self._array.shape[1:]}"
        if self.row != row or self._array.shape[0] < rows:
            raise self.changed(rows, row)
        self.rows = rows

    def write(self, result: Tree) -> None:
        """Put a batch's rows behind those that are there."""
        array = host(result)
        if self._array is None:
            chunk = max(1, min(len(array), READ_BYTES * len(array) // max(1, array.nbytes)))
            row = array.shape[1:]
            with naming_the_way_on(self.path):
                self._array = zarr().create_array(
                    str(self.path), shape=(0, *row), chunks=(chunk, *row), dtype=array.dtype, overwrite=True
                )
        self.require_fit((self._array.dtype, self._array.shape[1:]), array)
        self.row, stop = f"{array.dtype} {array.shape[1:]}", self.rows + len(array)
        with naming_the_way_on(self.path):
            self._array.resize((stop, *array.shape[1:]))
            self._array[self.rows : stop] = array
        self.rows = stop

    def settle(self) -> None:
        """Cut off what another call wrote behind the rows."""
        if self._array is not None and self._array.shape[0] != self.rows:
            with naming_the_way_on(self.path):
                self._array.resize((self.rows, *self._array.shape[1:]))

    def sync(self) -> None:
        """Do nothing: each chunk is a file that is there at once."""

    def close(self) -> None:
        """Let go of the array."""
        self._array = None

    def finish(self) -> Any:
        """Return the array, which is only read."""
        self.settle()
        return zarr().open_array(str(self.path), mode="r")


def zarr() -> Any:
    """Return the package, or raise a ModuleNotFoundError that says how to install it."""
    try:
        import zarr
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("a file that ends in .zarr needs zarr: pip install 'gradkernels[zarr]'") from error
    return zarr
