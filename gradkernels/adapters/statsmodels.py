"""Robust standard errors of fitted models of statsmodels, from per-sample gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gradkernels.adapters.sandwich import Fit, RobustErrors, robust_errors
from gradkernels.dispatch.request import KernelLike
from gradkernels.problems import LinearRegression, LogisticRegression, PoissonRegression, Problem
from gradkernels.truth import Floats

KNOWN = "OLS, WLS, Logit, Poisson or a GLM of one of these families"

UNDETERMINED = 64 * float(np.finfo(float).eps)
"""Of the eigenvalues of a Hessian scaled to a diagonal of ones: a smaller one, over the largest, is rounding."""


def robust(
    result: Any, groups: Any = None, *, correction: bool | None = None, kernel: KernelLike = None
) -> RobustErrors:
    """Compute standard errors that need no equal variances, or no independence within groups, of a fitted model.

    They are those of `fit(cov_type="HC0")` and, with groups, of `fit(cov_type="cluster", cov_kwds={"groups": groups})`.

    Args:
        result: What `fit()` of an OLS, WLS, Logit, Poisson or canonical GLM returned.
        groups: Labels of each observation's group, `(n,)`, or `(n, 2)` for two ways of clustering.
        correction: Whether to correct for few observations or groups; by default, as statsmodels does, with groups.
        kernel: A way to sum the outer products, as of `gk.outer`, instead of the fastest that is known.

    Returns:
        `.bse`, `.cov_params()` and `.tvalues`; numpy takes it for its standard errors.

    Raises:
        TypeError: Not a result of these models.
        ValueError: A model whose loss is another one than these, by weights, constraints or a penalty; parameters that
            the design does not determine, but for least squares; data that were removed; groups that do not fit.
    """
    fit = statsmodels_fit(result)
    return robust_errors(fit, groups, groups is not None if correction is None else correction, kernel)


def statsmodels_fit(result: Any) -> Fit:
    """Read the problem, the data and the inverse Hessian off a result of statsmodels."""
    from statsmodels.discrete.discrete_model import LogitResults, PoissonResults
    from statsmodels.genmod.generalized_linear_model import GLMResults
    from statsmodels.regression.linear_model import OLS, WLS, OLSResults, RegressionResults

    plain = getattr(result, "_results", result)  # statsmodels' wrapper, which gives pandas its names back
    kind = type(plain)
    model: Any = getattr(plain, "model", None)
    _require_plain(plain, model)
    rank: int | None = None
    if kind in (OLSResults, RegressionResults) and type(model) in (OLS, WLS):
        problem: Problem = LinearRegression(fit_intercept=False)
        bread, weight = plain.normalized_cov_params / 2, model.weights if type(model) is WLS else None
        rank = int(model.rank)
    elif kind in (LogitResults, PoissonResults):
        problem = (LogisticRegression if kind is LogitResults else PoissonRegression)(fit_intercept=False)
        bread, weight = _inverse(-model.hessian(plain.params)), None
    elif kind is GLMResults:
        problem, weight = _of_family(model)
        halves = 2 if isinstance(problem, LinearRegression) else 1
        bread = _inverse(-model.hessian(plain.params, scale=1.0)) / halves
    else:
        raise TypeError(f"robust takes what fit() of statsmodels' {KNOWN} returned, not {kind.__name__}")
    theta = np.asarray(plain.params, float)
    return Fit(problem, theta, _design(model), np.asarray(model.endog, float), weight, bread, _names(result), rank)


def _require_plain(plain: Any, model: Any) -> None:
    """Raise a ValueError unless a result is of all its parameters, without constraints, and still has its data."""
    if getattr(plain, "constraints", None) is not None:
        raise ValueError("the parameters were fitted under constraints, where gradients do not sum to zero")
    if getattr(plain, "regularized", False):  # of a refit of the columns that are left, and says not which these are
        raise ValueError("a penalty chose among the parameters (fit_regularized); fit a model of the chosen columns")
    if model is not None and getattr(model, "exog", None) is None:
        raise ValueError("the model has no data any more (remove_data); fit it again, and call robust before")


def _inverse(hessian: Floats) -> Floats:
    """Invert a Hessian `(P, P)`; raise a ValueError where the design does not determine all parameters."""
    scales = np.sqrt(np.abs(np.diag(hessian)))
    scales = np.where(scales > 0, scales, 1.0)
    lengths = np.linalg.eigvalsh(hessian / np.outer(scales, scales))
    if not lengths[0] > UNDETERMINED * lengths[-1]:
        raise ValueError(
            "the design does not determine the parameters: a column is a sum of others to within rounding, so they "
            "have no standard errors; leave columns out of the model"
        )
    inverse: Floats = np.linalg.inv(hessian)
    return inverse


def _of_family(model: Any) -> tuple[Problem, Floats | None]:
    """Return the regression that a GLM is, and the weight of each observation."""
    from statsmodels.genmod.families import Binomial, Gaussian, Poisson, links

    kinds: dict[Any, Callable[..., Problem]] = {
        (Gaussian, links.Identity): LinearRegression,
        (Binomial, links.Logit): LogisticRegression,
        (Poisson, links.Log): PoissonRegression,
    }
    family, link = type(model.family), type(model.family.link)
    if (family, link) not in kinds:
        raise ValueError(
            f"robust knows the families Gaussian, Binomial and Poisson with their canonical links; the model has "
            f"{family.__name__} with {link.__name__}: use fit(cov_type='HC0')"
        )
    for name in ("freq_weights", "n_trials"):
        if not np.all(np.asarray(getattr(model, name, 1)) == 1):
            raise ValueError(f"the model has {name}, rows that stand for several; repeat them, or pass var_weights")
    return kinds[family, link](fit_intercept=False), np.asarray(model.var_weights, float)


def _design(model: Any) -> Floats:
    """Return the model's design, with its offset and the logarithm of its exposure as a last column."""
    design: Floats = np.ascontiguousarray(model.exog, dtype=float)
    parts = [getattr(model, name, None) for name in ("offset", "exposure")]  # the exposure is its logarithm by now
    given = [np.asarray(part, float) for part in parts if part is not None]
    return np.column_stack([design, np.sum(given, 0)]) if given else design


def _names(result: Any) -> Any:
    return getattr(result.params, "index", None)
