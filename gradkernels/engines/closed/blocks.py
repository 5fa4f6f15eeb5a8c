"""The closed forms of regressions in blocks of rows that stay in cache, written once for numpy and torch.

Row i is slope_i * (1, x_i) + c with c = l2 * (0, theta_{1..d}); for several predictors slope_i * (1, x_i) is an outer
product. From it, without any `(n, p)` array:

- gradient: (sum of slopes, x^T slopes) / n + c;
- norms: |slope_i| sqrt(1 + |x_i|^2); with a penalty the row itself, a block at a time, because expanding the square of
  a sum would cancel;
- moments: mean and centred squares of each block, merged as Chan, Golub & LeVeque (1983, The American Statistician
  37(3)) do; c shifts every row alike and leaves the variance as it is;
- clipped_sum: (sum of f slopes, x^T (f slopes)) + (sum of f) c with the factors f_i = min(1, max_norm / norm_i).

Each block is read once and used while it is in cache. Sums of blocks are added in float64, and so are, for float32,
those of a few samples within a block: sums of many float32 samples are as accurate as by pairwise addition.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradkernels.backend import Array
from gradkernels.problems import Regression
from gradkernels.quantity import Moments
from gradkernels.row_norms import mended, scaled
from gradkernels.tree import Tree, take

TEMPORARIES = 6  # arrays of eta's shape that are alive while slopes are computed
GROUP = 256  # samples that a matrix product may add up one after the other in float32
FLOAT64_BYTES = 8  # bytes of a float64, in which blocks are short enough


def cross_product(xp: Any, one: Array, other: Array) -> Array:
    """Return one^T other; in float32 as many sums of `GROUP` samples as it takes, added in float64.

    Args:
        xp: `numpy` or `torch`.
        one: `(b, k)`.
        other: `(b,)` or `(b, m)`.
    """
    whole = len(one) - len(one) % GROUP if one.itemsize < FLOAT64_BYTES else 0
    if not whole:
        return one.T @ other
    groups = one[:whole].reshape(-1, GROUP, one.shape[1]).swapaxes(1, 2)
    sums = groups @ other[:whole].reshape(len(groups), GROUP, -1)
    total = sums.sum(0, dtype=xp.float64) + (one[whole:].T @ other[whole:]).reshape(sums.shape[1:])
    return total if other.ndim == 2 else total[:, 0]


@dataclass(frozen=True)
class ClosedForms:
    """A problem's closed forms for the arrays of one library.

    Attributes:
        xp: `numpy` or `torch`.
        problem: Whose gradients.
        rows: Most rows in a block.
        memory: Bytes that a block's temporaries may take: with many parameters a block has fewer rows.
    """

    xp: Any
    problem: Regression
    rows: int
    memory: int

    def parts(self, theta: Array, x: Array, y: Tree) -> Iterator[tuple[slice, Array, Array]]:
        """Yield each block's place, its slopes `(b,)` or `(b, K)`, and its features `(b, d)`.

        Args:
            theta: Parameters, `(p,)` or `(p, K)`.
            x: Features, `(n, d)` or `(n,)`.
            y: Targets, and weights where the problem has them, samples first.
        """
        step = self._step(theta)
        for start in range(0, len(x), step):
            part = slice(start, start + step)
            block = x[part]
            slope = self.problem.slopes(self.xp, theta, block, take(y, part))
            yield part, slope, block if block.ndim == 2 else block[:, None]

    def gradient(self, theta: Array, x: Array, y: Tree) -> Array:
        """Return the gradient of the mean loss, of theta's shape.

        Args:
            theta: Parameters, `(p,)` or `(p, K)`.
            x: Features, `(n, d)` or `(n,)`.
            y: Targets, and weights where the problem has them, samples first.
        """
        total = self._zeros(theta)
        for _, slope, columns in self.parts(theta, x, y):
            self._add(total, slope, columns)
        total /= len(x)
        return self._penalised(total, theta)

    def per_sample(self, theta: Array, x: Array, y: Tree, out: Array) -> Array:
        """Write the per-sample gradients into `out` and return it.

        Args:
            theta: Parameters, `(p,)` or `(p, K)`.
            x: Features, `(n, d)` or `(n,)`.
            y: Targets, and weights where the problem has them, samples first.
            out: Memory for the rows, `(n, *theta.shape)`.
        """
        for part, slope, columns in self.parts(theta, x, y):
            self.write_rows(theta, slope, columns, out[part])
        return out

    def norms(self, theta: Array, x: Array, y: Tree, out: Array) -> Array:
        """Write the norms of the per-sample gradients into `out` and return it.

        Args:
            theta: Parameters, `(p,)` or `(p, K)`.
            x: Features, `(n, d)` or `(n,)`.
            y: Targets, and weights where the problem has them, samples first.
            out: Memory for the norms, `(n,)`.
        """
        scratch = self.scratch(theta, x) if self.problem.l2 else None
        for part, slope, columns in self.parts(theta, x, y):
            out[part] = self._norms(theta, slope, columns, scratch)
        return out

    def moments(self, theta: Array, x: Array, y: Tree) -> Moments[Any]:
        """Return mean and biased variance over samples, each of theta's shape.

        Args:
            theta: Parameters, `(p,)` or `(p, K)`.
            x: Features, `(n, d)` or `(n,)`.
            y: Targets, and weights where the problem has them, samples first.
        """
        mean, squares, seen = self._zeros(theta), self._zeros(theta), 0
        scratch = self.scratch(theta, x)
        for _, slope, columns in self.parts(theta, x, y):
            count = len(slope)
            own = self._zeros(theta)
            self._add(own, slope, columns)
            own /= count
            delta = own - mean
            mean += delta * (count / (seen + count))
            squares += self._centred(slope, columns, own, scratch) + delta * delta * (seen * count / (seen + count))
            seen += count
        return Moments(self._penalised(mean, theta), self.xp.asarray(squares / seen, dtype=theta.dtype))

    def clipped_sum(self, theta: Array, x: Array, y: Tree, max_norm: float = 1.0) -> Array:
        """Return the sum of the rows, each scaled down to `max_norm`, of theta's shape.

        Args:
            theta: Parameters, `(p,)` or `(p, K)`.
            x: Features, `(n, d)` or `(n,)`.
            y: Targets, and weights where the problem has them, samples first.
            max_norm: Largest norm of a row in the sum.
        """
        total, factors = self._zeros(theta), 0.0
        scratch = self.scratch(theta, x) if self.problem.l2 else None
        for _, slope, columns in self.parts(theta, x, y):
            factor = 1 / self.xp.clip(self._norms(theta, slope, columns, scratch) / max_norm, min=1.0)
            self._add(total, slope * (factor[:, None] if self.problem.outputs else factor), columns)
            factors += float(factor.sum()) if self.problem.l2 else 0.0
        return self._penalised(total, theta, factors)

    @property
    def _first(self) -> int:
        return int(self.problem.fit_intercept)

    def _step(self, theta: Array) -> int:
        """Return the number of rows in a block."""
        outputs = (self.problem.outputs or (1,))[0]
        numbers = len(theta) * outputs + TEMPORARIES * outputs
        return max(1, min(self.rows, self.memory // (theta.itemsize * numbers)))

    def scratch(self, theta: Array, x: Array) -> Array:
        """Allocate memory for the rows of a block, for this call alone, so that calls may run at the same time."""
        shape = (min(len(x), self._step(theta)), *theta.shape)
        return self.xp.empty(shape, dtype=theta.dtype, device=theta.device)

    def _zeros(self, theta: Array) -> Array:
        return self.xp.zeros(theta.shape, dtype=self.xp.float64, device=theta.device)

    def _add(self, total: Array, slope: Array, columns: Array) -> None:
        """Add the sum of slope * (1, x) to `total`."""
        if self._first:
            total[0] += slope.sum(0, dtype=total.dtype)
        total[self._first :] += cross_product(self.xp, columns, slope)

    def _penalised(self, total: Array, theta: Array, times: float = 1.0) -> Array:
        if self.problem.l2:
            total[self._first :] += (times * self.problem.l2) * theta[self._first :]
        return self.xp.asarray(total, dtype=theta.dtype)

    def _outer(self, slope: Array, columns: Array, out: Array) -> None:
        """Write slope * x into `out`, without the intercept's column."""
        if self.problem.outputs:
            self.xp.multiply(slope[:, None], columns[..., None], out=out)
        else:
            self.xp.multiply(slope[:, None], columns, out=out)

    def write_rows(self, theta: Array, slope: Array, columns: Array, out: Array) -> None:
        """Write the rows of a block.

        Args:
            theta: Parameters, `(p,)` or `(p, K)`.
            slope: Of the block, `(b,)` or `(b, K)`.
            columns: Features of the block, `(b, d)`.
            out: Memory for the rows, `(b, *theta.shape)`.
        """
        out[:, : self._first] = slope[:, None]
        self._outer(slope, columns, out[:, self._first :])
        if self.problem.l2:
            out[:, self._first :] += self.problem.l2 * theta[self._first :]

    def _norms(self, theta: Array, slope: Array, columns: Array, scratch: Array | None) -> Array:
        if scratch is not None:
            rows = scratch[: len(slope)]
            self.write_rows(theta, slope, columns, rows)
            rows = rows.reshape(len(slope), -1)
            return self._roots(self.xp.linalg.vecdot(rows, rows), rows)
        size = self._roots((slope * slope).sum(-1), slope) if self.problem.outputs else self.xp.abs(slope)
        # A product of single columns is several times faster than as many inner products of length 1.
        single = columns[:, 0] if columns.shape[1] == 1 else None
        with np.errstate(over="ignore"):  # what overflows is mended
            squares = (self.xp.linalg.vecdot(columns, columns) if single is None else single * single) + self._first
        return size * self._roots(squares, columns, self._first)

    def _roots(self, squares: Array, rows: Array, first: int = 0) -> Array:
        """Return the norms of rows, each with `first` before its entries, from their squares."""

        def again(beyond: Array) -> Array:
            some = rows[beyond]
            return scaled(self.xp, [some, self.xp.ones_like(some[:, :1])] if first and some.shape[1] else [some])

        return mended(self.xp, self.xp.sqrt(squares), squares, again, least=first)

    def _centred(self, slope: Array, columns: Array, mean: Array, scratch: Array) -> Array:
        """Return the sum of the squared distances of slope * (1, x) from their mean."""
        rows = scratch[: len(slope)]
        rows[:, : self._first] = slope[:, None]
        self._outer(slope, columns, rows[:, self._first :])
        rows -= self.xp.asarray(mean, dtype=slope.dtype)
        rows *= rows
        return rows.sum(0, dtype=self.xp.float64)
