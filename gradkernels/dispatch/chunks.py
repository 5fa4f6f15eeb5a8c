"""Kernels in chunks that stay within the caller's memory limit, by what one sample takes: measured once for a shape."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from typing import Any

from gradkernels.case import Case
from gradkernels.check.modules.sample_passes import CallerBatch
from gradkernels.dispatch.memory_limit import bytes_per_sample, within
from gradkernels.kernel import Kernel
from gradkernels.tree import count

MOST_SHAPES = 4096


class Limited:
    """Of one problem and limit.

    Args:
        problem: Of a module; what was measured of it is kept for other limits.
        max_bytes: Peak memory allowed, in bytes; None for any.
    """

    def __init__(self, problem: Any, max_bytes: int | None) -> None:
        self._problem, self._limit = problem, max_bytes
        self._fitting: dict[Hashable, Kernel] = {}
        self._bytes: dict[Hashable, int] = problem.cache.setdefault("bytes", {})

    def within(self, kernel: Kernel, case: Case, batch: CallerBatch, shapes: Hashable) -> Kernel:
        """The kernel, in chunks if it takes them.

        Args:
            kernel: It.
            case: What is asked, of any number of samples.
            batch: What it is to be called with.
            shapes: Of the batch: what was found for one holds for others of the same.

        Raises:
            TooSmall: It cannot stay within the limit.
        """
        if self._limit is None or not count(batch.y):
            return kernel
        if (kernel, shapes) not in self._fitting:
            for known in (self._fitting, self._bytes):
                if len(known) >= MOST_SHAPES:
                    known.clear()
            if shapes not in self._bytes:
                self._bytes[shapes] = bytes_per_sample(self._problem, batch.theta, batch.x, batch.y)
            case = replace(case, n=count(batch.y))
            self._fitting[kernel, shapes] = within(kernel, case, batch.theta, self._bytes[shapes], self._limit)
        return self._fitting[kernel, shapes]
