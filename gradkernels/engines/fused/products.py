"""The computes of `numba.fused` that take vectors or groups, and of outer products: Python's side of each call."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradkernels.engines.fused.build import RELEASED, CallPlans, Driver
from gradkernels.engines.fused.chunks import LARGE, chunks_of_sums, parallel_for, split_rows
from gradkernels.engines.fused.codegen.arrays import aligned, require_native
from gradkernels.engines.fused.codegen.simd import BYTES
from gradkernels.engines.fused.drivers.outer import (
    group_sums_workspace,
    outer_workspace,
    write_group_sums,
    write_outer,
)
from gradkernels.engines.fused.drivers.weighted import (
    inner_workspace,
    weighted_workspace,
    write_inner,
    write_weighted_sums,
)
from gradkernels.engines.fused.quantities import unpacking
from gradkernels.kernel import Compute
from gradkernels.problems import Regression

ResultShape = tuple[int, int, int]


class _Sums:
    """What a driver adds up, chunk by chunk, joined in float64 in order: `(a, b, c)` as the driver says.

    Args:
        problem: Whose rows.
        driver: What adds up.
    """

    def __init__(self, problem: Regression, driver: Driver) -> None:
        self._plans = CallPlans(driver, problem)

    def __call__(self, arrays: tuple[Any, ...], shape: ResultShape, more: Any = None, count: int = 0) -> Any:
        """Return the sums of all chunks.

        Args:
            arrays: theta, x, y and weights or None.
            shape: Of the sums.
            more: An array without gaps that the driver takes besides, or None.
            count: A number that it takes.
        """
        require_native(*arrays)
        theta, x, y, w = aligned(*arrays)
        chunks = chunks_of_sums(len(x), x.size, shape[0] * shape[1] * shape[2])
        parts, address = np.zeros((len(chunks), *shape)), 0 if more is None else more.ctypes.data

        def work(i: int, start: int, stop: int) -> None:
            plan = self._plans.part(theta.itemsize, start, stop, more=(address, count))
            RELEASED(theta, x, y, w, parts[i], plan.ctypes.data)

        parallel_for(work, chunks)
        with np.errstate(invalid="ignore", over="ignore"):
            return parts.sum(0) if len(parts) > 1 else parts[0]


def weighted_sum(problem: Regression) -> Compute:
    """Return a compute of weighted sums, all weightings in one pass."""
    sums, classes = _Sums(problem, (write_weighted_sums, weighted_workspace)), (problem.outputs or (1,))[0]

    def compute(theta: Any, x: Any, y: Any, w: Any = None, *, weights: Any) -> Any:
        count = weights.shape[1] if weights.ndim > 1 else 1
        several = np.ascontiguousarray(weights, theta.dtype)
        found = _narrowed(sums((theta, x, y, w), (count, len(theta), classes), several, count), theta.dtype)
        return found.reshape(*weights.shape[1:], *theta.shape)

    return unpacking(problem, compute)


def inner(problem: Regression) -> Compute:
    """Return a compute of the inner products with directions, all of them in one pass."""
    plans, first, l2 = CallPlans((write_inner, inner_workspace), problem), int(problem.fit_intercept), problem.l2
    classes = (problem.outputs or (1,))[0]

    def compute(theta: Any, x: Any, y: Any, w: Any = None, *, v: Any) -> Any:
        require_native(theta, x, y, w)
        theta, x, y, w = aligned(theta, x, y, w)
        count = len(v) if v.ndim > theta.ndim else 1
        several = v.reshape(count, len(theta), classes)
        found = np.empty((len(x), count), theta.dtype)
        more = _directions(several, first, l2 * theta.reshape(len(theta), classes)[first:])

        def work(i: int, start: int, stop: int) -> None:
            plan = plans.part(theta.itemsize, start, stop, more=(more.ctypes.data, count))
            RELEASED(theta, x, y, w, found, plan.ctypes.data)

        parallel_for(work, split_rows(len(x), x.size) if x.size >= LARGE else [(0, len(x))])
        return found if v.ndim > theta.ndim else found[:, 0]

    return unpacking(problem, compute)


def _directions(several: Any, first: int, penalty: Any) -> Any:
    """Return directions `(count, entries, classes)` as the driver takes them; the penalty's gradient has no intercept.

    Args:
        several: The directions.
        first: Number of intercepts, 0 or 1.
        penalty: Gradient of the penalty, `(d, classes)`.
    """
    weights = np.moveaxis(several[:, first:], 2, 1)
    intercepts = several[:, 0] if first else np.zeros((len(several), several.shape[2]), several.dtype)
    with np.errstate(invalid="ignore", over="ignore"):
        added = (several[:, first:] * penalty).sum((1, 2))
    return np.concatenate([weights.ravel(), intercepts.ravel(), added.ravel()]).astype(penalty.dtype, copy=False)


def outer(problem: Regression) -> Compute:
    """Return a compute of the sum of outer products of the rows, or of their sums by group."""
    sums, of_groups = _Sums(problem, (write_outer, outer_workspace)), _group_sums(problem)

    def compute(theta: Any, x: Any, y: Any, w: Any = None, *, groups: Any = None) -> Any:
        if groups is None:
            found = sums((theta, x, y, w), (1, theta.size, theta.size))[0]
            return _narrowed(found, theta.dtype)
        lines = of_groups((theta, x, y, w), groups, int(groups.max(initial=-1)) + 1)
        with np.errstate(invalid="ignore", over="ignore"):
            return _narrowed((lines.T @ lines)[: theta.size, : theta.size], theta.dtype)

    return unpacking(problem, compute)


def group_sums(problem: Regression) -> Compute:
    """Return a compute of the sums by group."""
    of_groups = _group_sums(problem)

    def compute(theta: Any, x: Any, y: Any, w: Any = None, *, groups: Any, count: int) -> Any:
        lines = of_groups((theta, x, y, w), groups, count)[:, : theta.size]
        return _narrowed(lines, theta.dtype).reshape(count, *theta.shape)

    return unpacking(problem, compute)


def _group_sums(problem: Regression) -> Any:
    """Return `sums(arrays, groups, count)`, lines as long as theta with zeros behind them, float64."""
    sums = _Sums(problem, (write_group_sums, group_sums_workspace))

    def compute(arrays: tuple[Any, ...], groups: Any, count: int) -> Any:
        theta = arrays[0]
        lanes = BYTES // theta.itemsize
        padded = -(-theta.size // lanes) * lanes
        return sums(arrays, (1, count, padded), np.ascontiguousarray(groups, np.int64))[0]

    return compute


def _narrowed(found: Any, dtype: Any) -> Any:
    """Return float64 numbers without gaps in another dtype, in which what is too large is infinite."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.ascontiguousarray(found, dtype)
