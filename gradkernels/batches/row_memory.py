"""Rows of batches as they come, in memory: new memory that grows, or the caller's."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from gradkernels.backend import Array, backend_of
from gradkernels.memory import store
from gradkernels.names import counted
from gradkernels.tree import Tree, each, leaves, structure


class RowSink(ABC):
    """Where results with a part for each sample go.

    Attributes:
        rows: How many there are so far.
    """

    rows: int = 0

    @abstractmethod
    def write(self, result: Tree) -> None:
        """Put a batch's rows behind those that are there."""

    @abstractmethod
    def finish(self) -> Any:
        """Return all rows."""


class GrowingRows(RowSink):
    """New memory: of the right size from the start where the number of samples is known, else doubled when full."""

    def __init__(self, expected: int | None) -> None:
        self._room = expected or 0
        self._all: Tree = None
        self._like: Tree = None

    def write(self, result: Tree) -> None:
        """Put a batch's rows behind those that are there."""
        size = len(leaves(result)[0])
        if self._all is None:
            self._room = max(self._room, size)
            self._like = each(lambda one: one[:0], result)
            self._all = each(lambda one: _blank(one, self._room), result)
        if self.rows + size > self._room:
            self._room = max(2 * self._room, self.rows + size)
            self._all = each(self._moved, self._all)
        at = slice(self.rows, self.rows + size)
        each(lambda into, one: store(into, at, _own(one)), self._all, result)
        self.rows += size

    def finish(self) -> Any:
        """Return the rows, in the library of those of batches."""
        if self.rows < self._room:
            self._room = self.rows
            self._all = each(self._moved, self._all)
        return each(_like, self._all, self._like)

    def _moved(self, old: Array) -> Array:
        new = _blank(old, self._room)
        store(new, slice(0, self.rows), old[: self.rows])
        return new


class GivenRows(RowSink):
    """The caller's memory: an array, a memory map, or a dict of them, with a row for each sample."""

    def __init__(self, out: Tree) -> None:
        self._out = out

    def write(self, result: Tree) -> None:
        """Put a batch's rows behind those that are there."""
        if structure(self._out) != structure(result):
            raise TypeError("out has not the structure of the result; pass an array where that is one, and else a dict "
                            f"of them for {', '.join(result)}")  # fmt: skip
        at = slice(self.rows, self.rows + len(leaves(result)[0]))
        each(lambda into, one: _fill(into, at, one), self._out, result)
        self.rows = at.stop

    def finish(self) -> Any:
        """Return the memory; a ValueError where it has more rows than there were samples."""
        if (room := len(leaves(self._out)[0])) != self.rows:
            raise ValueError(f"out has {room:,} rows, and the batches have {counted(self.rows, 'sample')}; it must "
                             "have as many")  # fmt: skip
        return self._out


def _fill(into: Array, at: slice, one: Array) -> None:
    if at.stop > len(into) or into.shape[1:] != one.shape[1:]:
        shape = " x ".join(map(str, one.shape[1:]))
        raise ValueError(f"out is {tuple(into.shape)}; it must have a row for each sample, of which there are "
                         f"{at.stop:,} at least" + (f", of {shape}" if shape else ""))  # fmt: skip
    own, library = backend_of(into), backend_of(one)
    assert library is not None
    dtypes = [str(array.dtype).removeprefix("torch.") for array in (one, into)]
    if dtypes[1].startswith(("int", "uint", "bool")):
        raise TypeError(f"out is of {dtypes[1]}, which would cut off the fractions of rows of {dtypes[0]}; pass an "
                        f"array of {dtypes[0]}")  # fmt: skip
    if own is library:
        store(into, at, one)
    elif isinstance(into, np.ndarray):
        into[at] = library.get(one)
    else:
        raise TypeError(f"out is a {type(into).__name__} and the rows are of {library.name}; pass an array of that or "
                        "of numpy, or the name of a file")  # fmt: skip


def _own(array: Array) -> Array:
    """Return a tensor, or anything else as numpy's."""
    library = backend_of(array)
    assert library is not None
    return array if library.name == "torch" else library.get(array)


def _blank(like: Array, rows: int) -> Array:
    own = _own(like)
    shape = (rows, *own.shape[1:])
    return np.empty(shape, own.dtype) if isinstance(own, np.ndarray) else own.new_empty(shape)


def _like(array: Array, like: Array) -> Array:
    library = backend_of(like)
    assert library is not None
    return array if backend_of(array) is library else library.put(array, library.arrays.device_of(like))
