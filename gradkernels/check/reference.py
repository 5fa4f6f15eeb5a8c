"""The quantities as they must be, from independent float64 gradients of each sample by definitions of their own."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from gradkernels.check import complex_step
from gradkernels.check.true_gradients import ERROR_SLACK, TrueGradients
from gradkernels.problems import Problem, Regression
from gradkernels.problems.problem import Floats
from gradkernels.quantity import Moments
from gradkernels.tree import Tree, each

SMALLEST_ROOT = 1e-140  # of a sum of squares that lost nothing to underflow


@dataclass(frozen=True)
class Expected:
    """What a kernel must return.

    Attributes:
        value: The result, float64.
        scale: Scale of each entry's rounding error, same structure as `value`.
        terms: Number of roundings that add up in one entry.
    """

    value: Any
    scale: Any
    terms: int


@dataclass(frozen=True)
class Reference:
    """The quantities at one point and data set, and how well a working precision can know them.

    Attributes:
        problem: Whose loss is differentiated.
        theta: Parameters; with x and y in any float dtype, taken exactly.
        x: Features.
        y: Targets.
        known: Their gradients, where they are there already.
    """

    problem: Problem
    theta: Tree
    x: Tree
    y: Tree
    known: TrueGradients | None = None

    @property
    def inputs(self) -> tuple[Tree, Tree, Tree]:
        """Theta, x and y."""
        return self.theta, self.x, self.y

    @cached_property
    def _true(self) -> TrueGradients:
        return self.known or true_gradients(self.problem, *each(_wide, (self.theta, self.x, self.y)))

    @property
    def rows(self) -> Floats:
        """Per-sample gradients, `(n, *theta.shape)`; `(n, p)` where theta is a dict, its parameters in order."""
        return self._true.rows

    @property
    def gradient(self) -> Floats:
        """Derivative of the mean loss: not computed from `rows`."""
        return self._true.gradient

    @cached_property
    def scale(self) -> Floats:
        """Rounding scale of each entry of `rows`, with a floor for entries far below their row's largest."""
        scale = self._true.scale
        if self._true.norm_scale is not None:
            return scale
        known = np.where(np.isfinite(scale), scale, 0.0)  # what overflows is no floor for what does not
        largest = known.reshape(len(scale), -1).max(1).reshape(-1, *[1] * (scale.ndim - 1))
        return np.maximum(scale, np.finfo(np.float32).eps * largest)

    @cached_property
    def norms(self) -> Floats:
        """Euclidean norm of each row, `(n,)`."""
        return row_lengths(self._flat(self.rows))

    @cached_property
    def norm_scale(self) -> Floats:
        """Scale of each norm."""
        if self._true.norm_scale is not None:
            return self._true.norm_scale
        return row_lengths(self._flat(self.scale))

    @cached_property
    def mean_row(self) -> Floats:
        """Mean of the rows, which must be the gradient."""
        return self.rows.mean(0)

    @cached_property
    def mean_scale(self) -> Floats:
        """Scale of each entry of a mean over samples."""
        if self._true.norm_scale is not None:
            return np.broadcast_to(self._true.norm_scale.mean(), self.rows.shape[1:])
        return self.scale.mean(0)

    @cached_property
    def mean_square_scale(self) -> Floats:
        """Scale of each entry of a mean of squares over samples."""
        if self._true.norm_scale is not None:
            return np.broadcast_to(self.mean_square_norm_scale, self.rows.shape[1:])
        return (self.scale**2).mean(0)

    @cached_property
    def mean_square_norm_scale(self) -> Any:
        """Scale of the mean of the squared norms."""
        if self._true.norm_scale is not None:
            return (self._true.norm_scale**2).mean()
        return self.mean_square_scale.sum()

    @cached_property
    def variance(self) -> Floats:
        """Biased variance of the rows over samples."""
        return self.rows.var(0)

    def with_errors(self, samples: Any, allowed: float, dtype: str) -> Reference | None:
        """Return the same with larger scales where a working precision cannot know the rows of some samples.

        Args:
            samples: Their numbers, `(k,)`.
            allowed: Error that is allowed, in units of the scale.
            dtype: The working precision.

        Returns:
            None where the scales are known to be those of rounding.
        """
        true = self._true
        if true.row_errors is None:
            return None
        scale = self.norm_scale.copy()
        scale[samples] = np.maximum(scale[samples], ERROR_SLACK / allowed * true.row_errors(samples, dtype))
        wide = np.broadcast_to(scale[:, None], true.rows.shape)
        return replace(self, known=true._replace(scale=wide, norm_scale=scale))

    def expect(self, quantity: str, max_norm: float = 1.0) -> Expected:
        """Compute `quantity` by its definition, written independently of `gradkernels.quantity`."""
        table: dict[str, Callable[[], tuple[Any, Any]]] = {
            "gradient": lambda: (self.gradient, self.mean_scale),
            "per_sample": lambda: (self.rows, self.scale),
            "norms": lambda: (self.norms, self.norm_scale),
            "moments": self._moments,
            "clipped_sum": lambda: self._clipped_sum(max_norm),
        }
        value, scale = table[quantity]()
        per_row = self._flat(self.rows).shape[1] + 4
        return Expected(value, scale, per_row + (0 if quantity in ("per_sample", "norms") else len(self.rows)))

    def _flat(self, rows: Floats) -> Floats:
        return rows.reshape(len(rows), -1)

    def _moments(self) -> tuple[Moments[Any], Moments[Any]]:
        # E[g^2] - E[g]^2 loses to cancellation what the two-pass form does not: both are allowed.
        value = Moments(self.gradient, self.variance)
        return value, Moments(self.mean_scale, 2 * self.mean_square_scale)

    def _clipped_sum(self, max_norm: float) -> tuple[Floats, Floats]:
        with np.errstate(divide="ignore"):
            factor = np.where(self.norms > max_norm, max_norm / self.norms, 1.0)
        factor = np.where(np.isnan(self.norms), np.nan, factor)
        value = np.einsum("i,i...->...", factor, self.rows)
        # The factor has the norm's relative error, hence the 2.
        return value, 2 * self._weighted(factor)

    def _weighted(self, factor: Floats) -> Floats:
        """Return the scale of each entry of a weighted sum over samples."""
        if self._true.norm_scale is not None:
            return np.broadcast_to(factor @ self._true.norm_scale, self.rows.shape[1:])
        return np.einsum("i,i...->...", factor, self.scale)


def true_gradients(problem: Problem, theta: Tree, x: Tree, y: Tree) -> TrueGradients:
    """Compute what every kernel of the problem is held against, from the loss alone.

    Args:
        problem: A regression, by the complex step, or a module, by a backward pass for each sample.
        theta: Parameters, float64 numpy arrays, as all that follow.
        x: Inputs, n samples.
        y: Targets.

    Raises:
        TypeError: It is neither.
        ValueError: Samples of a module have no gradients of their own; see `gradkernels.check.modules.reference`.
    """
    if isinstance(problem, Regression):
        return complex_step.regression_gradients(problem, theta, x, y)
    from gradkernels.check.modules import reference  # which loads torch
    from gradkernels.problems.module.black_box import BlackBox

    if not isinstance(problem, BlackBox):
        raise TypeError(f"{problem.name} is neither a Regression nor a ModuleProblem; there is no reference for it")
    return reference.module_gradients(problem, theta, x, y)


def row_lengths(rows: Floats) -> Floats:
    """Return the Euclidean norm of each row of `(n, p)`, by C's hypot where the squares leave float64's range."""
    with np.errstate(over="ignore"):
        norms = np.linalg.norm(rows, axis=1)
    beyond = ~((norms > SMALLEST_ROOT) & (norms < np.inf)) & rows.any(1)
    norms[beyond] = [math.hypot(*row) for row in rows[beyond].tolist()]
    return norms


def _wide(array: Floats) -> Floats:
    """Convert an array to float64, exactly, or to two of them for complex numbers; keep class numbers as they are."""
    kind = np.asarray(array).dtype.kind
    return array if kind in "iub" else np.asarray(array, np.complex128 if kind == "c" else np.float64)
