"""The arrays of a call with dask's among them: looked at as far as they are known, and cut at the same rows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import dask.array as da
import numpy as np

from gradkernels.names import counted
from gradkernels.problems import Problem
from gradkernels.scale.block_task import BlockColumn, BlockPlace
from gradkernels.scale.lazy_arrays import is_lazy
from gradkernels.tree import Tree, each, leaves, named
from gradkernels.validate import validate_kinds


@dataclass(frozen=True, eq=False)
class Samples:
    """The samples of a call in blocks of rows.

    Attributes:
        x: Features, `(n, d)` or `(n,)`.
        y: Targets, perhaps with weights, blocks as x has them.
    """

    x: da.Array
    y: Tree

    @property
    def rows(self) -> tuple[int, ...]:
        """Number of rows of each block."""
        found: tuple[int, ...] = self.x.chunks[0]
        return found

    @property
    def arrays(self) -> list[da.Array]:
        """What each block has: x, the target, perhaps its weights."""
        return [self.x, *leaves(self.y)]

    @property
    def columns(self) -> tuple[BlockColumn, ...]:
        """What these are called."""
        names = [name for name, _ in (*named("x", self.x), *named("y", self.y))]
        return tuple(BlockColumn(name, str(one.dtype)) for name, one in zip(names, self.arrays, strict=True))

    @property
    def places(self) -> dict[tuple[int], BlockPlace]:
        """Which rows each block has."""
        ends = list(accumulate(self.rows, initial=0))
        return {(i,): BlockPlace(i, ends[i], ends[i + 1]) for i in range(len(self.rows))}


def blocked(problem: Problem, theta: Any, x: Any, y: Tree, rows: tuple[int, ...] | None = None) -> Samples:
    """Cut x and y into blocks of the same rows, those of x where it has some.

    Args:
        problem: A regression.
        theta: Parameters, a numpy array.
        x: Features, an array of dask or numpy.
        y: Targets, perhaps with weights, likewise.
        rows: Numbers of rows where neither has blocks.

    Raises:
        TypeError: Something else than arrays, or of mixed dtypes.
        ValueError: Shapes that do not fit together, blocks of unknown length or of columns.
    """
    arrays = [*named("x", x), *named("y", y)]
    for name, array in arrays:
        if is_lazy(array):
            _require_blocks(name, array)
    validate_kinds(problem, theta, *(each(memoryless, tree) for tree in (x, y)))
    lazy = [array for _, array in arrays if is_lazy(array)]
    cut = lazy[0].chunks[0] if lazy else rows or (x.shape[0],)
    return Samples(cut_into(x, cut), each(lambda one: cut_into(one, cut), y))


def memoryless(array: Any) -> Any:
    """Return a numpy array of the same shape and dtype without memory; one of numpy as it is."""
    return np.broadcast_to(np.zeros((), array.dtype), array.shape) if is_lazy(array) else array


def cut_into(array: Any, rows: tuple[int, ...]) -> da.Array:
    """Return an array in blocks of these rows, each with all columns.

    Args:
        array: Of dask or numpy.
        rows: Number of each block's.
    """
    chunks = (rows, *((length,) for length in array.shape[1:]))
    if not is_lazy(array):
        return da.from_array(np.array(array), chunks=chunks)  # a copy: the caller's may change before it is needed
    return array if array.chunks == chunks else array.rechunk(chunks)


def require_array(name: str, array: Any) -> None:
    """Raise unless what dask has is an array, of numpy's.

    Args:
        name: What it is called.
        array: Of dask.
    """
    if not isinstance(array, da.Array):
        hint = f"{name}.to_dask_array(lengths=True)" if hasattr(array, "to_dask_array") else "dask.array.from_delayed"
        raise TypeError(f"{name} is dask's {type(array).__name__}; pass an array, for instance by {hint}")
    if not isinstance(array._meta, np.ndarray) or isinstance(array._meta, np.ma.MaskedArray):
        kind = f"{type(array._meta).__module__}.{type(array._meta).__name__}"
        raise TypeError(f"blocks of {name} are of {kind}; they must be plain numpy arrays: map_blocks(numpy.asarray)")


def _require_blocks(name: str, array: Any) -> None:
    require_array(name, array)
    if unknown := [i for i, length in enumerate(array.chunks[0] if array.ndim else ()) if math.isnan(length)]:
        others = f" and {counted(len(unknown) - 1, 'other')}" if len(unknown) > 1 else ""
        raise ValueError(f"block {unknown[0]}{others} of {name} has an unknown number of rows; call "
                         f"{name}.compute_chunk_sizes(), or read files with gk.open")  # fmt: skip
    if array.ndim > 1 and len(array.chunks[1]) > 1:
        raise ValueError(f"block 0 of {name} has {array.chunks[1][0]} of its {counted(array.shape[1], 'column')}; a "
                         f"block must have whole rows: {name}.rechunk({{1: -1}})")  # fmt: skip
