"""What is asked of dask arrays, as dask arrays: block by block, or merged by a tree whose form the blocks decide."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from operator import itemgetter
from typing import Any

import dask.array as da
import numpy as np

from gradkernels.kernel import Kernel
from gradkernels.problems import Problem
from gradkernels.quantity import Moments, Quantity, quantity
from gradkernels.scale.block_results import BlockResults
from gradkernels.scale.block_task import BlockTask, ComputeLocally
from gradkernels.scale.blocked import Samples, blocked, memoryless, require_array
from gradkernels.scale.lazy_arrays import is_lazy
from gradkernels.scale.lazy_options import LazyOptions, looked_at
from gradkernels.scale.merging import Merging, merging_of

FAN_INS = (4, 16)
"""How many results of blocks are merged at once: few of large ones, so that a group of them takes no long time."""

MERGED_BYTES = 2**26
"""Of the blocks that are merged at once, about."""

Choose = Callable[[str, int, int, str], Kernel]
"""`choose(quantity, n, features, dtype)`, the kernel for blocks of n rows on one thread."""


@dataclass(frozen=True, eq=False)
class LazyCall:
    """A call with dask arrays: `call(theta, x, y, **options)` returns arrays that are computed later.

    Attributes:
        quantity: What is asked.
        problem: A regression.
        choose: What finds the kernel.
        compute: What binds it where a block is.
    """

    quantity: Quantity
    problem: Problem
    choose: Choose
    compute: ComputeLocally

    def __call__(self, theta: Any, x: Any, y: Any, out: Any = None, **options: Any) -> Any:
        """Return the result of all samples, lazily.

        Args:
            theta: Parameters, an array of numpy or dask.
            x: Features, in blocks of whole rows.
            y: Targets.
            out: Nothing: there is no result yet.
            options: Of the quantity.
        """
        if out is not None:
            raise TypeError("out= was given, and results of dask arrays are made later; leave it out, and write the "
                            "result with dask.array.store")  # fmt: skip
        theta, x, y = self.problem.as_inputs(theta, x, y)
        if is_lazy(theta):
            require_array("theta", theta)
        like = memoryless(theta)
        samples = blocked(self.problem, like, x, y)
        if not (n := sum(samples.rows)) and self.quantity.averages:
            raise ValueError(f"x has n = 0 samples; {self.quantity} divides by n and needs at least 1")
        given = looked_at(self.quantity, options, self.problem, like, samples)
        results = BlockResults(self._task(samples, given), samples, given, theta)
        blank = self.quantity.blank(n, like, given.stand_ins)
        if self.quantity.sample_parts:
            return _with_sides(results, blank)
        return _side_by_side(results, blank) if self.quantity.by_sample else _merged(results, blank)

    def _task(self, samples: Samples, given: LazyOptions) -> BlockTask:
        name = self.quantity.name
        merging = None if self.quantity.by_sample else merging_of(name, given.stand_ins)
        local, columns = merging.local if merging else name, (*samples.columns, *given.columns)
        features, dtype = self.problem.features(samples.x), str(samples.x.dtype)
        kernel = self.choose(local, max(1, *samples.rows), features, dtype)
        task = BlockTask(self.problem, local, kernel, self.compute, columns, merging=merging)
        if any(option.batch for option in self.quantity.options):
            return replace(task, others=(given.other or samples).columns)
        return task


def lazy_call(name: str, problem: Problem, choose: Choose, compute: ComputeLocally) -> LazyCall:
    """Return what computes a quantity of dask arrays.

    Args:
        name: Of the quantity.
        problem: A regression.
        choose: What finds the kernel.
        compute: What binds it where a block is.
    """
    return LazyCall(quantity(name), problem, choose, compute)


def _side_by_side(results: BlockResults, blank: Any) -> Any:
    """Return a result that has a part for each sample: an array, or a dict of them."""
    rows = len(results.groups)
    if not isinstance(blank, dict):
        return results.array(blank.shape[rows:])[_first(results)]
    parts = results.array(())
    return {key: _each(results, parts, itemgetter(key)) for key in blank}


def _first(results: BlockResults) -> tuple[Any, ...]:
    """Return the index that takes the axes of length 1 away."""
    return (slice(None),) * len(results.groups) + (0,) * results.blanks


def _each(results: BlockResults, parts: da.Array, picked: Callable[[Any], Any]) -> da.Array:
    """Return what is picked from each block's result, an array of its samples."""
    return parts.map_blocks(picked, dtype=results.dtype, meta=parts._meta)[_first(results)]


def _with_sides(results: BlockResults, blank: Any) -> Any:
    """Return a sum, and norms of each sample or a dict of them, of which each block has a part."""
    parts, axes = results.array(()), tuple(range(1 + results.blanks))
    new = dict(enumerate(blank.sum.shape, len(axes)))
    meta = np.empty((0,) * (len(axes) + len(new)), results.dtype)
    sums = da.blockwise(
        itemgetter(0), (*axes, *new), parts, axes, new_axes=new, align_arrays=False, dtype=results.dtype, meta=meta
    )
    keys = blank.norms if isinstance(blank.norms, dict) else ()
    norms = {key: _each(results, parts, partial(_side, key)) for key in keys}
    return type(blank)(
        _reduced(results, sums, blank.sum.shape), norms if keys else _each(results, parts, itemgetter(1))
    )


def _side(key: str, part: Any) -> Any:
    return part[1][key]


def _merged(results: BlockResults, blank: Any) -> Any:
    """Return a sum or mean of all samples, or their mean and variance."""
    if not isinstance(blank, Moments):
        return _reduced(results, results.array(blank.shape), blank.shape)
    shape = (2, *blank.mean.shape)
    both = _reduced(results, results.array(shape), shape)
    return Moments(both[0], both[1])


def _reduced(results: BlockResults, parts: da.Array, shape: tuple[int, ...]) -> da.Array:
    """Merge what blocks pass on, over samples and axes of length 1.

    Args:
        results: Of all blocks.
        parts: What they pass on, of samples, axes of length 1 and those of the result.
        shape: Of the result.
    """
    merging = results.task.merging
    assert merging is not None
    return da.reduction(
        parts,
        _unchanged,
        partial(finished_blocks, merging, shape, results.dtype),
        combine=partial(combined, merging),
        axis=tuple(range(1 + results.blanks)),
        split_every={0: _fan_in(results)},
        concatenate=False,
        dtype=results.dtype,
        meta=np.empty((0,) * len(shape), results.dtype),
        name=f"{results.task.local}-merged",
    )


def _fan_in(results: BlockResults) -> int:
    """Return how many results of blocks are merged at once, by the blocks alone: whatever computes them."""
    few, many = FAN_INS
    largest = max(results.samples.rows, default=0)
    bytes_of_block = largest * sum(prod(one.shape[1:]) * one.dtype.itemsize for one in results.samples.arrays)
    return min(many, max(few, MERGED_BYTES // max(1, bytes_of_block)))


def _unchanged(part: Any, axis: Any, keepdims: bool) -> Any:
    return part


def combined(merging: Merging, parts: Any, axis: Any, keepdims: bool) -> Any:
    """Merge the results of some blocks; None, of those without rows, is none.

    Args:
        merging: How.
        parts: Results of blocks, in lists.
        axis: Nothing: dask says it.
        keepdims: Likewise.
    """
    found = [part for part in _flat(parts) if part is not None]
    with np.errstate(all="ignore"):
        return merging.merged(found) if len(found) > 1 else found[0] if found else None


def finished_blocks(merging: Merging, shape: tuple[int, ...], own: Any, parts: Any, axis: Any, keepdims: bool) -> Any:
    """Return the result of all rows from what was merged of some blocks each.

    Args:
        merging: How.
        shape: Of the result.
        own: Its dtype.
        parts: What is known of some blocks, in lists.
        axis: Nothing: dask says it.
        keepdims: Likewise.
    """
    part = combined(merging, parts, axis, keepdims)
    with np.errstate(all="ignore"):
        return np.zeros(shape, own) if part is None else merging.finished(part, shape).astype(own)


def _flat(parts: Any) -> Iterator[Any]:
    """Yield what is in lists, of lists, in order."""
    if not isinstance(parts, list):
        yield parts
        return
    for part in parts:
        yield from _flat(part)
