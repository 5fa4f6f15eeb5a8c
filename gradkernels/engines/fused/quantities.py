"""The computes of `numba.fused`: Python's side of each call, which is most of the time of a small batch."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradkernels.engines.fused.build import ENTRY, RELEASED, UNCLIPPED, CallPlans
from gradkernels.engines.fused.chunks import LARGE, parallel_for, split_rows
from gradkernels.engines.fused.codegen.arrays import aligned, require_native
from gradkernels.engines.fused.drivers.moments import moments_workspace, write_moments
from gradkernels.engines.fused.drivers.norms import norms_workspace, write_norms
from gradkernels.engines.fused.drivers.per_sample import rows_workspace, write_rows
from gradkernels.engines.fused.drivers.sums import clipped_workspace, sums_workspace, write_clipped_sum, write_sums
from gradkernels.engines.fused.drivers.workspace import MEAN
from gradkernels.kernel import Compute
from gradkernels.memory import empty_numpy
from gradkernels.memory.results import FEWEST_ENTRIES
from gradkernels.problems import Regression
from gradkernels.quantity import Moments

DOUBLE = np.dtype(np.float64)
"""Asked for first at each call: whether arrays are of this very dtype takes half the time of their byte order."""


def gradient(problem: Regression) -> Compute:
    """Return a compute of the mean of the per-sample gradients."""
    plans, entry = CallPlans((write_sums, sums_workspace), problem, MEAN), ENTRY
    ready = plans.ready

    def compute(theta: Any, x: Any, y: Any, w: Any = None) -> Any:
        if not (theta.dtype is DOUBLE and x.dtype is DOUBLE and y.dtype is DOUBLE and w is None):
            require_native(theta, x, y, w)
        if x.size >= LARGE:
            return _total(plans, theta, x, y, w, UNCLIPPED, len(x))
        result = theta.copy()
        try:
            entry.run(result, x, y, w, None, ready[theta.itemsize])
        except (KeyError, TypeError):  # not compiled yet
            entry(result, x, y, w, None, plans[theta.itemsize])
        return result

    return unpacking(problem, compute)


def unpacking(problem: Regression, compute: Compute) -> Compute:
    """Have `compute` take targets and weights as one argument where the problem has weights."""
    if not problem.weighted:
        return compute
    return lambda theta, x, y, **options: compute(theta, x, *y, **options)


def clipped_sum(problem: Regression) -> Compute:
    """Return a compute of the sum of the per-sample gradients, each no longer than max_norm."""
    plans = CallPlans((write_clipped_sum, clipped_workspace), problem)

    def compute(theta: Any, x: Any, y: Any, w: Any = None, *, max_norm: float = 1.0) -> Any:
        require_native(theta, x, y, w)
        if x.size >= LARGE:
            return _total(plans, theta, x, y, w, float(max_norm), 1)
        result = theta.copy()
        plan = plans.part(theta.itemsize, 0, -1, float(max_norm))
        ENTRY(result, x, y, w, None, plan.ctypes.data)
        return result

    return unpacking(problem, compute)


def _total(plans: CallPlans, theta: Any, x: Any, y: Any, w: Any, max_norm: float, count: int) -> Any:
    """Add up sums of chunks in float64, in order whatever the number of threads; divide by `count`."""
    theta, x, y, w = aligned(theta, x, y, w)
    chunks = split_rows(len(x), x.size)
    parts = np.empty((len(chunks), *theta.shape))

    def work(i: int, start: int, stop: int) -> None:
        plan = plans.part(theta.itemsize, start, stop, max_norm, clear=MEAN)
        RELEASED(theta, x, y, w, parts[i], plan.ctypes.data)

    parallel_for(work, chunks)
    with np.errstate(invalid="ignore", over="ignore"):
        return (parts.sum(0) / count).astype(theta.dtype)


def per_sample(problem: Regression) -> Compute:
    """Return a compute of the per-sample gradients, into `out` or into memory from numpy, which asks for huge pages."""
    plans = CallPlans((write_rows, rows_workspace), problem)

    def compute(theta: Any, x: Any, y: Any, w: Any = None, *, out: Any = None) -> Any:
        n = len(x)
        rows = _result((n, *theta.shape), n * theta.size, theta.dtype, out)
        _each(plans, theta, x, y, w, rows)
        return rows

    return unpacking(problem, compute)


def norms(problem: Regression) -> Compute:
    """Return a compute of the norms of the per-sample gradients."""
    plans = CallPlans((write_norms, norms_workspace), problem)

    def compute(theta: Any, x: Any, y: Any, w: Any = None, *, out: Any = None) -> Any:
        n = len(x)
        found = _result((n,), n, theta.dtype, out)
        _each(plans, theta, x, y, w, found)
        return found

    return unpacking(problem, compute)


def _result(shape: tuple[int, ...], size: int, dtype: Any, out: Any) -> Any:
    """Return memory for a result, or `out` if it fits.

    Args:
        shape: Of the result.
        size: Number of its entries.
        dtype: Of the result.
        out: What the caller gave, or None.
    """
    if out is None:  # `empty_numpy` would find out how few they are in three times the time
        return np.empty(shape, dtype) if size < FEWEST_ENTRIES else empty_numpy(shape, dtype)
    if out.shape != shape or out.dtype != dtype:
        given = f"out is {out.shape} {out.dtype}"
        raise ValueError(f"{given}, theta and x do not fit together with it; it must be {shape} {dtype}")
    return out


def _each(plans: CallPlans, theta: Any, x: Any, y: Any, w: Any, out: Any) -> None:
    """Write a result for each row, chunk by chunk where there are many."""
    if not (theta.dtype is DOUBLE and x.dtype is DOUBLE and y.dtype is DOUBLE and w is None):
        require_native(theta, x, y, w)
    if x.size < LARGE:
        ENTRY(theta, x, y, w, out, plans[theta.itemsize])
        return
    theta, x, y, w = aligned(theta, x, y, w)
    (target,) = aligned(out)

    def work(i: int, start: int, stop: int) -> None:
        plan = plans.part(theta.itemsize, start, stop)
        RELEASED(theta, x, y, w, target, plan.ctypes.data)

    parallel_for(work, split_rows(len(x), x.size))
    if target is not out:
        out[...] = target


def moments(problem: Regression) -> Compute:
    """Return a compute of mean and variance of the per-sample gradients."""
    plans, first, l2 = CallPlans((write_moments, moments_workspace), problem), int(problem.fit_intercept), problem.l2
    classes = (problem.outputs or (1,))[0]

    def compute(theta: Any, x: Any, y: Any, w: Any = None) -> Moments[Any]:
        n = len(x)
        require_native(theta, x, y, w)
        theta, x, y, w = aligned(theta, x, y, w)
        chunks = split_rows(n, x.size) if x.size >= LARGE else [(0, n)]
        parts = np.empty((len(chunks), 3, len(theta), classes))

        def work(i: int, start: int, stop: int) -> None:
            plan = plans.part(theta.itemsize, start, stop)
            RELEASED(theta, x, y, w, parts[i], plan.ctypes.data)

        parallel_for(work, chunks)
        with np.errstate(invalid="ignore", over="ignore"):
            mean, variance = (part.reshape(theta.shape) for part in _joined(parts, chunks, n))
            if l2:
                mean[first:] += l2 * theta[first:]
            return Moments(mean.astype(theta.dtype), variance.astype(theta.dtype))

    return unpacking(problem, compute)


def _joined(parts: Any, chunks: list[tuple[int, int]], n: int) -> tuple[Any, Any]:
    """Join mean and variance of all rows from each chunk's base, sum around it and squares around its own mean."""
    counts, base = np.diff(chunks)[:, :, None], parts[0, 0]
    means = (parts[:, 0] - base) + parts[:, 1] / counts
    mean = (counts * means).sum(0) / n
    return base + mean, (parts[:, 2].sum(0) + (counts * (means - mean) ** 2).sum(0)) / n
