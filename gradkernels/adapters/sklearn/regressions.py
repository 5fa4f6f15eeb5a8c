"""Losses of scikit-learn estimators that are regressions here, with parameters and targets as these take them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gradkernels.adapters.sklearn.samples import numbers_of_classes
from gradkernels.problems import (
    HuberRegression,
    LinearRegression,
    LogisticRegression,
    PoissonRegression,
    Problem,
    SoftmaxRegression,
)
from gradkernels.truth import Floats

Loss = tuple[Problem, float]
"""A regression, and the factor that makes its loss the estimator's."""


def loss_of(estimator: Any) -> Loss:
    """Return the loss that an estimator minimizes, as a regression and a factor.

    Raises:
        ValueError: Another loss; the message lists the classes that are known.
    """
    known = _losses()
    for kind in type(estimator).__mro__:
        if kind.__module__.partition(".")[0] == "sklearn" and kind.__name__ in known:
            problem, factor = known[kind.__name__](estimator, bool(getattr(estimator, "fit_intercept", True)))
            return problem, factor
    raise ValueError(
        f"{type(estimator).__name__} has no loss of a linear predictor that is known here; known are "
        f"{', '.join(sorted(known))}"
    )


def theta_of(estimator: Any, problem: Problem) -> Floats:
    """Return fitted parameters in the shape of theta: intercept first, classes last."""
    coefficients = np.asarray(estimator.coef_, float)
    if isinstance(problem, SoftmaxRegression):
        rows = coefficients.T
        return np.vstack([estimator.intercept_, rows]) if problem.fit_intercept else rows
    if coefficients.ndim > 1 and len(coefficients) != 1:
        raise ValueError(f"the estimator was fitted to {len(coefficients)} targets; fit one for each of them")
    flat = coefficients.reshape(-1)
    intercept = problem.fit_intercept  # type: ignore[attr-defined]
    return np.concatenate([np.reshape(estimator.intercept_, 1), flat]) if intercept else flat


def targets_of(estimator: Any, problem: Problem, y: Any) -> Any:
    """Return targets as a problem takes them: numbers, or the number of each sample's class.

    Args:
        estimator: Fitted, for its classes.
        problem: Its loss.
        y: Targets or labels, `(n,)`.
    """
    if isinstance(problem, LogisticRegression | SoftmaxRegression):
        return numbers_of_classes(estimator, y)
    return y.astype(float)


def _squared(factor: float) -> Callable[[Any, bool], Loss]:
    return lambda estimator, intercept: (LinearRegression(fit_intercept=intercept), factor)


def _classes(estimator: Any, intercept: bool) -> Loss:
    count = len(estimator.classes_)
    if count > 2:
        return SoftmaxRegression(classes=count, fit_intercept=intercept), 1.0
    return LogisticRegression(fit_intercept=intercept), 1.0


def _huber(estimator: Any, intercept: bool) -> Loss:
    """Return the loss with its fitted scale as it is: epsilon counts in scales, and the quadratic has no one-half."""
    scale = float(estimator.scale_)
    return HuberRegression(estimator.epsilon * scale, fit_intercept=intercept), 2 / scale


def _sgd_classifier(estimator: Any, intercept: bool) -> Loss:
    if estimator.loss != "log_loss" or len(estimator.classes_) > 2:
        raise ValueError(f"SGDClassifier is known with loss='log_loss' and two classes, not {estimator.loss!r} and "
                         f"{len(estimator.classes_)} classes")  # fmt: skip
    return LogisticRegression(fit_intercept=intercept), 1.0


def _sgd_regressor(estimator: Any, intercept: bool) -> Loss:
    if estimator.loss == "squared_error":
        return LinearRegression(fit_intercept=intercept), 0.5
    if estimator.loss == "huber":
        return HuberRegression(estimator.epsilon, fit_intercept=intercept), 1.0
    raise ValueError(f"SGDRegressor is known with loss='squared_error' and 'huber', not {estimator.loss!r}")


def _losses() -> dict[str, Callable[[Any, bool], Loss]]:
    """Return by class of scikit-learn how its loss is made of an estimator and whether that has an intercept.

    The squared error of a sample is as scikit-learn's manual writes each class's objective, without 1 / n: with a
    one-half for those that are fitted by coordinate descent or least angles.
    """
    whole = ("LinearRegression", "Ridge", "RidgeCV", "BayesianRidge", "ARDRegression")
    halves = (
        "Lasso", "LassoCV", "LassoLars", "LassoLarsCV", "LassoLarsIC", "ElasticNet", "ElasticNetCV", "Lars", "LarsCV",
        "OrthogonalMatchingPursuit", "OrthogonalMatchingPursuitCV",
    )  # fmt: skip
    return {
        **dict.fromkeys(whole, _squared(1.0)),
        **dict.fromkeys(halves, _squared(0.5)),
        "LogisticRegression": _classes,
        "LogisticRegressionCV": _classes,
        "PoissonRegressor": lambda estimator, intercept: (PoissonRegression(fit_intercept=intercept), 1.0),
        "HuberRegressor": _huber,
        "SGDClassifier": _sgd_classifier,
        "SGDRegressor": _sgd_regressor,
    }
