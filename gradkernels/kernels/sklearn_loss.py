"""scikit-learn's `LinearModelLoss`, which its generalized linear models are fitted with, in our conventions.

What differs there: the intercept comes last, coefficients of several classes are `(classes, d + 1)`, squared error has
one half, and means divide by the sum of the weights. The module is private and may move; then that is the reason given.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from importlib.machinery import PathFinder
from importlib.util import find_spec
from typing import Any

import numpy as np

from gradkernels.backend import Array
from gradkernels.case import Case
from gradkernels.kernel import Compute, declare
from gradkernels.problems import (
    HuberRegression,
    LinearRegression,
    LogisticRegression,
    PoissonRegression,
    Regression,
    SoftmaxRegression,
)

PRIVATE = ("linear_model._linear_loss", "_loss.loss", "utils._openmp_helpers")
LOSSES: dict[type, Callable[[Any, Any], Any]] = {
    LinearRegression: lambda loss, problem: loss.HalfSquaredError(),
    LogisticRegression: lambda loss, problem: loss.HalfBinomialLoss(),
    PoissonRegression: lambda loss, problem: loss.HalfPoissonLoss(),
    HuberRegression: lambda loss, problem: loss.HuberLoss(delta=problem.delta),
    SoftmaxRegression: lambda loss, problem: loss.HalfMultinomialLoss(n_classes=problem.classes),
}
"""By problem: `loss(module, problem)`, with the same gradient but for the factor in `FACTOR`."""

FACTOR: dict[type, float] = {LinearRegression: 2.0}


def _refuses(case: Case) -> list[str]:
    if type(case.problem) not in LOSSES:
        return [f"scikit-learn has no loss for {type(case.problem).__name__}; it has those of {_named(LOSSES)}"]
    missing = _missing()
    return [f"this version of scikit-learn has no {' and no '.join(missing)}; install 1.5 to 1.9"] if missing else []


def _named(table: dict[type, Any]) -> str:
    return ", ".join(kind.__name__ for kind in table)


@lru_cache(maxsize=1)
def _missing() -> list[str]:
    """List the private modules that are not there; looked for on disk, because importing them takes a second."""
    spec = find_spec("sklearn")
    root = [] if spec is None else list(spec.submodule_search_locations or [])
    return [f"sklearn.{name}" for name in PRIVATE if not _in(root, *name.split("."))]


def _in(folders: list[str], name: str, *rest: str) -> bool:
    spec = PathFinder.find_spec(name, folders)
    return spec is not None and (not rest or _in(list(spec.submodule_search_locations or []), *rest))


@declare("sklearn.loss.gradient", problems=Regression, refuses=_refuses)
def gradient(problem: Regression) -> Compute:
    """Build `LinearModelLoss.gradient` with as many OpenMP threads as the process may use."""
    from sklearn._loss import loss as losses
    from sklearn.linear_model._linear_loss import LinearModelLoss
    from sklearn.utils._openmp_helpers import _openmp_effective_n_threads

    first = int(problem.fit_intercept)
    model = LinearModelLoss(base_loss=LOSSES[type(problem)](losses, problem), fit_intercept=problem.fit_intercept)
    factor = FACTOR.get(type(problem), 1.0)

    def compute(theta, x, y):  # type: ignore[no-untyped-def]
        target, weight = problem.split(y)
        # A copy, since their gradient keeps the coefficients' memory order, with the intercept last.
        coefficients = np.concatenate([theta[first:], theta[:first]]).T
        columns = x if x.ndim == 2 else x[:, None]
        # Their loops want contiguous memory and one dtype.
        target = np.ascontiguousarray(target, theta.dtype)
        if type(problem) is HuberRegression and _any_nan(theta, columns, target):
            return np.full_like(theta, np.nan)  # they take a residual that is no number for one below -delta
        total = _mean(model, coefficients, columns, target, weight, _openmp_effective_n_threads()).T
        result = np.concatenate([total[len(total) - first :], total[: len(total) - first]])
        result *= factor
        if problem.l2:
            result[first:] += problem.l2 * theta[first:]
        return result

    return compute


def _any_nan(*arrays: Array) -> bool:
    """Return whether an entry is NaN; a sum tells cheaply that none is."""
    with np.errstate(invalid="ignore", over="ignore"):
        return any(np.isnan(array.sum()) and np.isnan(array).any() for array in arrays)


def _mean(model: Any, coefficients: Array, x: Array, target: Array, weight: Array | None, threads: int) -> Array:
    """Return scikit-learn's gradient, divided by n instead of by the sum of the weights."""
    if weight is None:
        return model.gradient(coefficients, x, target, n_threads=threads)
    weight = np.ascontiguousarray(weight)
    total = weight.sum()
    if total == 0:
        # They would divide by zero. The gradient is linear in the weights.
        shifted = _mean(model, coefficients, x, target, weight + 1, threads)
        return shifted - model.gradient(coefficients, x, target, n_threads=threads)
    mean: Array = model.gradient(coefficients, x, target, sample_weight=weight, n_threads=threads)
    mean *= total / len(weight)
    return mean
