"""The results of all blocks as one dask array, before anything is merged: a task for each block, which makes it too."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import dask
import dask.array as da
import numpy as np
from dask.base import tokenize
from dask.layers import ArrayValuesDep

from gradkernels.scale.block_task import BlockTask
from gradkernels.scale.blocked import Samples
from gradkernels.scale.lazy_arrays import is_lazy
from gradkernels.scale.lazy_options import LazyOptions


@dataclass(frozen=True, eq=False)
class BlockResults:
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
