"""Robust standard errors of least squares fitted by linearmodels, from per-sample gradients."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradkernels.adapters.sandwich import Fit, RobustErrors, robust_errors
from gradkernels.dispatch.request import KernelLike
from gradkernels.problems import LinearRegression


def robust(
    result: Any, groups: Any = None, *, correction: bool | None = None, kernel: KernelLike = None
) -> RobustErrors:
    """Compute standard errors that need no equal variances, or no independence within groups, of a fitted model.

    They are those of `fit(cov_type="robust")` and, with groups, of `fit(cov_type="clustered", clusters=groups)`.

    Args:
        result: What `fit()` of an `IV2SLS` or `IVLIML` without endogenous variables, that is least squares, returned.
        groups: Labels of each observation's group, `(n,)`, or `(n, 2)` for two ways of clustering.
        correction: Whether to correct for few observations or groups; by default where the result is debiased.
        kernel: A way to sum the outer products, as of `gk.outer`, instead of the fastest that is known.

    Returns:
        `.bse`, `.cov_params()` and `.tvalues`; numpy takes it for its standard errors.

    Raises:
        TypeError: Not a result of least squares.
        ValueError: Endogenous variables, or groups that do not fit.
    """
    fit = linearmodels_fit(result)
    return robust_errors(fit, groups, bool(result.debiased) if correction is None else correction, kernel)


def linearmodels_fit(result: Any) -> Fit:
    """Read the data and the inverse Hessian off a result of linearmodels."""
    from linearmodels.iv.model import IV2SLS, IVLIML

    model = getattr(result, "model", None)
    if not isinstance(model, (IV2SLS, IVLIML)) or not hasattr(result, "debiased"):
        raise TypeError(f"robust takes what fit() of linearmodels' IV2SLS returned, not {type(result).__name__}")
    if model.endog.shape[1]:
        raise ValueError("the model has endogenous variables; its estimate is no least squares: use cov_type='robust'")
    x, y = model.exog.ndarray, model.dependent.ndarray[:, 0]
    weight = np.asarray(model.weights.ndarray[:, 0], float)
    bread = np.linalg.inv(2 * (x * weight[:, None]).T @ x)
    theta = np.asarray(result.params, float)
    problem = LinearRegression(fit_intercept=False)
    return Fit(problem, theta, np.ascontiguousarray(x, float), np.asarray(y, float), weight, bread, result.params.index)
