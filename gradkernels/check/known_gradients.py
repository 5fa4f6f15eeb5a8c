"""What follows from gradients that are known, each sample's own: lengths, means, variances, and scales of rounding."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from functools import cached_property
from typing import Any

import numpy as np

from gradkernels.check.true_gradients import TrueGradients
from gradkernels.quantity import flat
from gradkernels.truth import Floats

SMALLEST_ROOT = 1e-140  # of a sum of squares that lost nothing to underflow


class KnownGradients(ABC):
    """Gradients of samples, of which a quantity's definition makes what results are held against."""

    @cached_property
    @abstractmethod
    def true(self) -> TrueGradients:
        """The gradients, float64, and how well a working precision can know them."""

    @property
    def rows(self) -> Floats:
        """Per-sample gradients, `(n, *theta.shape)`; `(n, p)` where theta is a dict, its parameters in order."""
        return self.true.rows

    @property
    def gradient(self) -> Floats:
        """Derivative of the mean loss: not computed from `rows`."""
        return self.true.gradient

    @cached_property
    def scale(self) -> Floats:
        """Rounding scale of each entry of `rows`, with a floor for entries far below their row's largest."""
        scale = self.true.scale
        if self.true.norm_scale is not None:
            return scale
        known = np.where(np.isfinite(scale), scale, 0.0)  # what overflows is no floor for what does not
        largest = known.reshape(len(scale), -1).max(1).reshape(-1, *[1] * (scale.ndim - 1))
        return np.maximum(scale, np.finfo(np.float32).eps * largest)

    @cached_property
    def norms(self) -> Floats:
        """Euclidean norm of each row, `(n,)`."""
        return lengths_by_hypot(flat(self.rows, 1))

    @cached_property
    def norm_scale(self) -> Floats:
        """Scale of each norm."""
        if self.true.norm_scale is not None:
            return self.true.norm_scale
        return lengths_by_hypot(flat(self.scale, 1))

    @cached_property
    def mean_row(self) -> Floats:
        """Mean of the rows, which must be the gradient."""
        return self.rows.mean(0)

    @cached_property
    def mean_scale(self) -> Floats:
        """Scale of each entry of a mean over samples."""
        if self.true.norm_scale is not None:
            return np.broadcast_to(self.true.norm_scale.mean(), self.rows.shape[1:])
        return self.scale.mean(0)

    @cached_property
    def mean_square_scale(self) -> Floats:
        """Scale of each entry of a mean of squares over samples."""
        if self.true.norm_scale is not None:
            return np.broadcast_to(self.mean_square_norm_scale, self.rows.shape[1:])
        return (self.scale**2).mean(0)

    @cached_property
    def mean_square_norm_scale(self) -> Any:
        """Scale of the mean of the squared norms."""
        if self.true.norm_scale is not None:
            return (self.true.norm_scale**2).mean()
        return self.mean_square_scale.sum()

    @cached_property
    def variance(self) -> Floats:
        """Biased variance of the rows over samples."""
        return self.rows.var(0)

    def weighted_scale(self, weights: Floats) -> Floats:
        """Return the scale of each entry of a sum of rows times `weights`, `(n,)`; what has no weight may be NaN."""
        used = weights != 0
        if self.true.norm_scale is not None:
            return np.broadcast_to(weights[used] @ self.true.norm_scale[used], self.rows.shape[1:])
        return np.einsum("i,i...->...", weights[used], self.scale[used])

    def norms_over(self, columns: Floats) -> tuple[Floats, Floats]:
        """Return the norms of the rows over some columns, `(n,)`, and their scales."""
        norms = lengths_by_hypot(flat(self.rows, 1)[:, columns])
        if self.true.norm_scale is not None:
            return norms, self.true.norm_scale
        return norms, lengths_by_hypot(flat(self.scale, 1)[:, columns])

    def scale_along(self, directions: Floats) -> Floats:
        """Return the scale of each row's product with `directions` `(p,)` or `(k, p)`: `(n,)` or `(n, k)`."""
        if self.true.norm_scale is not None:
            return np.multiply.outer(self.true.norm_scale, np.linalg.norm(directions, axis=-1))
        return np.einsum("ip,...p->i...", flat(self.scale, 1), np.abs(directions))

    def along_blocks(self, blocks: Iterable[tuple[slice, Floats]]) -> tuple[Floats, Floats]:
        """Return products of each row with directions `(k, p)` in blocks of columns, and their scales: `(n, k)`."""
        rows, of_rows, of_entries = flat(self.rows, 1), self.true.norm_scale, flat(self.scale, 1)
        value: Any = 0.0
        scale: Any = 0.0
        for at, block in blocks:
            value = value + rows[:, at] @ block.T
            scale = scale + ((block**2).sum(1) if of_rows is not None else of_entries[:, at] @ np.abs(block).T)
        return value, scale if of_rows is None else np.multiply.outer(of_rows, np.sqrt(scale))


def lengths_by_hypot(rows: Floats) -> Floats:
    """Return the Euclidean norm of each row of `(n, p)`, by C's hypot where the squares leave float64's range."""
    with np.errstate(over="ignore"):
        norms = np.linalg.norm(rows, axis=1)
    beyond = ~((norms > SMALLEST_ROOT) & (norms < np.inf)) & rows.any(1)
    norms[beyond] = [math.hypot(*row) for row in rows[beyond].tolist()]
    return norms
