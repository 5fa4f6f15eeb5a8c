"""What is asked of dask arrays, as dask arrays: block by block, or merged by a tree whose form the blocks decide."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from operator import itemgetter
from typing import Any

import dask
import dask.array as da
import numpy as np
from dask.base import tokenize
from dask.layers import ArrayValuesDep

from gradkernels.kernel import Kernel
from gradkernels.problems import Problem
from gradkernels.quantity import Moments, Quantity, quantity
from gradkernels.scale.block_task import BlockTask, ComputeLocally
from gradkernels.scale.blocked import Samples, blocked, require_array, stand_in
from gradkernels.scale.lazy_arrays import is_lazy
from gradkernels.scale.lazy_options import LazyOptions, looked_at
from gradkernels.scale.merging import Merging, merging_of

FAN_IN = 16
"""How many results of blocks are merged at once."""

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
        like = stand_in(theta)
        samples = blocked(self.problem, like, x, y)
        if not (n := sum(samples.rows)) and self.quantity.averages:
            raise ValueError(f"x has n = 0 samples; {self.quantity} divides by n and needs at least 1")
        given = looked_at(self.quantity, options, self.problem, like, samples)
        leaf = _Leaf(self._task(samples, given), samples, given, theta)
        blank = self.quantity.blank(n, like, given.stand_ins)
        return _side_by_side(leaf, blank) if self.quantity.by_sample else _merged(leaf, blank)

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


@dataclass(frozen=True, eq=False)
class _Leaf:
    """The results of all blocks, before anything is merged.

    Attributes:
        task: What is computed of each.
        samples: Of the call.
        given: Options of the call.
        theta: Parameters.
    """

    task: BlockTask
    samples: Samples
    given: LazyOptions
    theta: Any

    @property
    def dtype(self) -> Any:
        """Of the result."""
        return self.theta.dtype

    @property
    def groups(self) -> list[tuple[Samples, list[da.Array]]]:
        """The blocks that a task is given, with all of their arrays: one, or two where there are pairs."""
        own = (self.samples, [*self.samples.arrays, *self.given.by_sample.values()])
        if not self.task.others:
            return [own]
        other = self.given.other or self.samples
        return [own, (other, other.arrays)]

    @property
    def blanks(self) -> int:
        """Number of axes of length 1 behind those of the samples, one for each other axis of what blocks have."""
        return sum(array.ndim - 1 for _, arrays in self.groups for array in arrays)

    def array(self, rest: tuple[int, ...]) -> da.Array:
        """Return them as an array: of samples, axes of length 1, and the axes of a block's result.

        These axes have to be there: what contracts an axis is not fused with what makes the blocks.

        Args:
            rest: Lengths of the last axes.
        """
        groups, indices = self.groups, []
        used = rows = len(groups)
        for axis, (samples, arrays) in enumerate(groups):
            indices += [ArrayValuesDep((samples.rows,), samples.places), (axis,)]
            for array in arrays:
                indices += [array, (axis, *range(used, used + array.ndim - 1))]
                used += array.ndim - 1
        axes, task = tuple(range(used + len(rest))), replace(self.task, blanks=used - rows)
        names = [array.name for _, arrays in groups for array in arrays]
        token = tokenize(task, names, self.theta, self.given.fixed)
        return da.blockwise(
            task,
            axes,
            *indices,
            name=f"{self.task.local}-of-blocks-{token}",
            new_axes=dict(enumerate(rest, used)),
            adjust_chunks=dict.fromkeys(range(rows, used), 1),
            align_arrays=False,
            dtype=self.dtype,
            meta=np.empty((0,) * len(axes), self.dtype),
            constants=self._constants(token),
        )

    def _constants(self, token: str) -> Any:
        """Return what all blocks are given, once in the graph, however many these are."""
        if is_lazy(self.theta):
            [theta] = self.theta.rechunk(-1).to_delayed(optimize_graph=False).ravel()
            return dask.delayed(dict)(theta=theta, options=self.given.fixed)
        constants = {"theta": np.array(self.theta), "options": self.given.fixed}  # a copy: the caller's may change
        return dask.delayed(constants, name=f"constants-{token}", traverse=False)


def _side_by_side(leaf: _Leaf, blank: Any) -> Any:
    rows = len(leaf.groups)
    first = (slice(None),) * rows + (0,) * leaf.blanks
    if not isinstance(blank, dict):
        return leaf.array(blank.shape[rows:])[first]
    parts = leaf.array(())
    return {key: parts.map_blocks(itemgetter(key), dtype=leaf.dtype, meta=parts._meta)[first] for key in blank}


def _merged(leaf: _Leaf, blank: Any) -> Any:
    shape = (2, *blank.mean.shape) if isinstance(blank, Moments) else blank.shape
    merging = leaf.task.merging
    assert merging is not None
    total = da.reduction(
        leaf.array(shape),
        _unchanged,
        partial(_finished, merging, shape, leaf.dtype),
        combine=partial(_combined, merging),
        axis=tuple(range(1 + leaf.blanks)),
        split_every={0: FAN_IN},
        concatenate=False,
        dtype=leaf.dtype,
        meta=np.empty((0,) * len(shape), leaf.dtype),
        name=f"{leaf.task.local}-merged",
    )
    return Moments(total[0], total[1]) if isinstance(blank, Moments) else total


def _unchanged(part: Any, axis: Any, keepdims: bool) -> Any:
    return part


def _combined(merging: Merging, parts: Any, axis: Any, keepdims: bool) -> Any:
    """Merge the results of some blocks; None, of those without rows, is none."""
    found = [part for part in _flat(parts) if part is not None]
    with np.errstate(all="ignore"):
        return merging.merged(found) if len(found) > 1 else found[0] if found else None


def _finished(merging: Merging, shape: tuple[int, ...], own: Any, parts: Any, axis: Any, keepdims: bool) -> Any:
    part = _combined(merging, parts, axis, keepdims)
    with np.errstate(all="ignore"):
        return np.zeros(shape, own) if part is None else merging.finished(part, shape).astype(own)


def _flat(parts: Any) -> Iterator[Any]:
    """Yield what is in lists, of lists, in order."""
    if not isinstance(parts, list):
        yield parts
        return
    for part in parts:
        yield from _flat(part)
