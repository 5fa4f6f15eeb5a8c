"""What a worker runs: a quantity of one block of rows, by a kernel chosen beforehand, or a sentence about the block."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradkernels.backend import Array
from gradkernels.kernel import Kernel
from gradkernels.problems import Problem, Weighted
from gradkernels.quantities.shared.cut_options import DROP
from gradkernels.scale.merging import Merging
from gradkernels.scale.one_thread import one_thread
from gradkernels.tree import each, leaves

ComputeLocally = Callable[..., Any]
"""`compute(name, problem, (theta, x, y), (kernel, results, max_bytes))`, the bound kernel."""


@dataclass(frozen=True)
class BlockPlace:
    """Which rows a block has.

    Attributes:
        number: Of the block, from 0 on.
        start: Its first sample's number among all.
        stop: One more than its last one's.
    """

    number: int
    start: int
    stop: int

    def __str__(self) -> str:
        """Return `block 3 (samples 300 to 399)`."""
        if self.start == self.stop:
            return f"block {self.number} (without samples)"
        return f"block {self.number} (samples {self.start:,} to {self.stop - 1:,})"


Block = tuple[BlockPlace, tuple[Array, ...]]
"""A block's place and arrays."""


@dataclass(frozen=True)
class BlockColumn:
    """One of the arrays of a block, as it was announced.

    Attributes:
        name: What messages call it: `x`, `y`, `sample_weight`.
        dtype: Its dtype.
    """

    name: str
    dtype: str

    def require(self, array: Any, place: BlockPlace) -> None:
        """Raise unless the array is numpy's, and has the dtype and number of rows that were announced.

        Args:
            array: Of one block.
            place: Of the block.
        """
        if not isinstance(array, np.ndarray) or isinstance(array, np.ma.MaskedArray):
            raise TypeError(f"{self.name} is a {type(array).__name__} there; a block must be a plain numpy array")
        if str(array.dtype) != self.dtype:
            raise TypeError(f"{self.name} is {array.dtype} there and {self.dtype} as a whole; use one dtype "
                            f"with {self.name}.astype")  # fmt: skip
        if len(array) != place.stop - place.start:
            raise ValueError(f"{self.name} has {len(array):,} rows there, announced were {place.stop - place.start:,}; "
                             f"call {self.name}.compute_chunk_sizes() first")  # fmt: skip

    def require_numbers(self, array: Array, place: BlockPlace) -> None:
        """Raise where an entry is NaN.

        Args:
            array: Of one block.
            place: Of the block.
        """
        if array.dtype.kind == "f" and (gaps := np.isnan(array).reshape(len(array), -1).any(1)).any():
            found, count = f"{self.name} is NaN in sample {place.start + int(gaps.argmax()):,}", int(gaps.sum())
            more = f", the first of {count:,} there" if count > 1 else ""
            raise ValueError(f"{found}{more}; leave such samples out, or fill them")


@dataclass(frozen=True)
class BlockTask:
    """A quantity of one block: called with its place and arrays, twice where there are pairs of blocks.

    Attributes:
        problem: A regression.
        local: Name of the quantity.
        kernel: What computes it.
        compute: What binds the kernel in the process that the block is in.
        columns: Of a block: x, the target, perhaps with weights, and options that are by sample.
        others: Of the block of other samples, in pairs: x, and the target.
        merging: How results of blocks are merged; None where they stand side by side.
        blanks: Number of axes of length 1 behind the samples of a result that stands side by side.
    """

    problem: Problem
    local: str
    kernel: Kernel
    compute: ComputeLocally
    columns: tuple[BlockColumn, ...]
    others: tuple[BlockColumn, ...] = ()
    merging: Merging | None = None
    blanks: int = 0

    def __call__(self, *arrays: Any, constants: dict[str, Any]) -> Any:
        """Compute what is passed on of a block.

        Args:
            arrays: The block's `BlockPlace` and arrays, then those of the other block.
            constants: `theta`, and `options` that are the same for all blocks.
        """
        own = len(self.columns) + 1
        place = " and ".join(str(one) for one in arrays[::own][:2] if isinstance(one, BlockPlace))
        try:
            blocks = [self._looked_at(self.columns, *arrays[:own])]
            if self.others:
                blocks.append(self._looked_at(self.others, *arrays[own:]))
            return self._passed_on(blocks, constants)
        except (TypeError, ValueError) as error:
            raise (TypeError if isinstance(error, TypeError) else ValueError)(f"{place}: {error}") from error

    def _looked_at(self, columns: tuple[BlockColumn, ...], place: BlockPlace, *arrays: Array) -> Block:
        for column, array in zip(columns, arrays, strict=True):
            column.require(array, place)
        return place, tuple(map(np.ascontiguousarray, arrays))

    def _passed_on(self, blocks: list[Block], constants: dict[str, Any]) -> Any:
        place, arrays = blocks[0]
        n, note = place.stop - place.start, None
        if self.merging is not None and n == 0 and not self.merging.sides:
            return None
        x, y, options = self._arguments(arrays)
        options |= constants["options"]
        if self.merging is not None:
            options, note = self.merging.narrowed(options, n, constants["theta"])
        for other in blocks[1:]:
            options["other"] = self._arguments(other[1])[:2]
        result = self._computed((constants["theta"], x, y), options)
        dropping = options.get("nonfinite") == DROP  # what is no number too, which is told beside the sum
        if not dropping and not all(map(_is_finite, leaves(result))):
            self._require_numbers(blocks)
        if self.merging is None:
            return self._with_blanks(result, len(blocks))
        part = self.merging.part(result, n, note)
        return (part, self._with_blanks(result.norms, 1)) if self.merging.sides else part

    def _with_blanks(self, result: Any, rows: int) -> Any:
        """Return a result with axes of length 1 behind those of the samples."""
        blanks = (1,) * self.blanks
        return each(lambda part: part.reshape(*part.shape[:rows], *blanks, *part.shape[rows:]), result)

    def _arguments(self, arrays: tuple[Array, ...]) -> tuple[Array, Any, dict[str, Any]]:
        """Return x, y and the options that are by sample."""
        x, target, *more = arrays
        if getattr(self.problem, "weighted", False):
            target = Weighted(target, more.pop(0))
        names = [column.name for column in self.columns[len(self.columns) - len(more) :]]
        return x, target, dict(zip(names, more, strict=True))

    def _computed(self, arrays: tuple[Any, Any, Any], options: dict[str, Any]) -> Any:
        with one_thread(self.kernel.backend), np.errstate(all="ignore"):
            bound = self.compute(self.local, self.problem, arrays, (self.kernel, None, None))
            return bound(*arrays, **options)

    def _require_numbers(self, blocks: list[Block]) -> None:
        for columns, (place, arrays) in zip((self.columns, self.others), blocks, strict=False):
            for column, array in zip(columns, arrays, strict=True):
                column.require_numbers(array, place)


def _is_finite(result: Array) -> bool:
    """Tell whether all entries are finite, by their sum: an overflow of it is looked at twice and found harmless."""
    with np.errstate(all="ignore"):
        return math.isfinite(float(result.sum()))
