"""A mixin that gives linear estimators of scikit-learn the gradient of each training sample."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gradkernels.fastest.of_gradients import per_sample
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

Slope = Callable[[Any, Any], Any]
"""Derivative of samples' losses by their scores, of scores and targets; classes are targets 1 and -1, `(n, K)`."""

UNKNOWN_CLASSES = "y has classes that were not there to fit; known are {}"


class PerSampleGradients:
    """Gives a linear estimator `per_sample_gradients_` after `fit`: put it before the estimator's class.

    `class Model(PerSampleGradients, LogisticRegression): pass`. Each row is the gradient of a sample's loss, as the
    estimator weighs it, with respect to intercept (first) and coefficients; the penalty is none of a sample's, and left
    out. Rows are `(n, d+1)`, or `(n, d)` without an intercept; with K > 2 classes `(n, d+1, K)` or `(n, d, K)`.

    Attributes:
        per_sample_gradients_: Of the samples that `fit` was given.
    """

    per_sample_gradients_: Floats

    def fit(self, X: Any, y: Any, sample_weight: Any = None, **options: Any) -> Any:
        """Fit the estimator, and compute the gradient of each sample's loss there.

        Args:
            X: Features `(n, d)`.
            y: Targets `(n,)`.
            sample_weight: Factor of each sample's loss `(n,)`; None for 1.
            options: Further arguments of the estimator's own `fit`.
        """
        weight = {} if sample_weight is None else {"sample_weight": sample_weight}
        fitted = super().fit(X, y, **weight, **options)  # type: ignore[misc]
        self.per_sample_gradients_ = self.per_sample_gradients(X, y, sample_weight)
        return fitted

    def per_sample_gradients(self, X: Any, y: Any, sample_weight: Any = None) -> Floats:
        """Compute the gradient of each sample's loss at the fitted parameters.

        Args:
            X: Features `(n, d)`.
            y: Targets `(n,)`.
            sample_weight: Factor of each sample's loss `(n,)`; None for 1.

        Raises:
            ValueError: An estimator whose loss is none of a linear predictor that gradkernels has.
        """
        from sklearn.utils import check_array
        from sklearn.utils.class_weight import compute_sample_weight

        features = check_array(X, accept_sparse=True, dtype=(np.float64, np.float32))
        features = features.toarray() if hasattr(features, "toarray") else features  # rows are dense anyway
        if (slope := slope_of(self)) is not None:
            return _rows_of_scores(self, slope, features, y, sample_weight)
        problem, factor = loss_of(self)
        weight = np.full(len(features), factor) if sample_weight is None else factor * np.asarray(sample_weight, float)
        if getattr(self, "class_weight", None) is not None:
            weight = weight * compute_sample_weight(self.class_weight, y)  # type: ignore[attr-defined]
        target = targets_of(self, problem, y)
        plain = bool((weight == 1).all())
        weights = None if plain else weight.astype(features.dtype)
        theta = theta_of(self, problem).astype(features.dtype)
        rows: Floats = per_sample(problem, theta, features, target, sample_weight=weights)
        return rows


def slope_of(estimator: Any) -> Slope | None:
    """Return how the loss of an estimator changes with its scores, for losses that are no regression's here.

    Raises:
        ValueError: A loss without a derivative somewhere; the message says which have one.
    """
    for kind in [one for one in type(estimator).__mro__ if one.__module__.partition(".")[0] == "sklearn"]:
        if kind.__name__ in ("GammaRegressor", "TweedieRegressor"):
            power = getattr(estimator, "power", 2.0)
            link = getattr(estimator, "link", "log")
            return _tweedie(power, link == "log" or (link == "auto" and power > 0))
        if kind.__name__ == "LinearSVC" or (kind.__name__ == "SGDClassifier" and estimator.loss in MARGINS):
            if estimator.loss not in MARGINS:
                raise ValueError(f"LinearSVC is known with loss='squared_hinge', not {estimator.loss!r}")
            return MARGINS[estimator.loss]
        if kind.__name__ == "SGDClassifier" and estimator.loss == "log_loss" and len(estimator.classes_) > 2:
            return lambda scores, target: -target / (1 + np.exp(target * scores))
    return None


def _tweedie(power: float, log: bool) -> Slope:
    """Return the derivative of half the deviance of Tweedie's distributions, with a log link or the identity."""
    if log:
        return lambda scores, target: np.exp((2 - power) * scores) - target * np.exp((1 - power) * scores)
    return lambda scores, target: (scores - target) * scores**-power


MARGINS: dict[str, Slope] = {
    "squared_hinge": lambda scores, target: -2 * target * np.maximum(0, 1 - target * scores),
    "modified_huber": lambda scores, target: -2 * target * np.clip(1 - target * scores, 0, 2),
}
"""Losses of margins that have a derivative everywhere; of several classes each has its own against all others."""


def _rows_of_scores(estimator: Any, slope: Slope, features: Floats, y: Any, sample_weight: Any) -> Floats:
    """Return rows `(n, d+1)`, or `(n, d+1, K)` with one score for each class.

    Args:
        estimator: Fitted.
        slope: Of its loss.
        features: `(n, d)`.
        y: Targets or labels, `(n,)`.
        sample_weight: Factor of each sample's loss, `(n,)`; None for 1.
    """
    from sklearn.utils.class_weight import compute_sample_weight

    weights = np.ones(len(features)) if sample_weight is None else np.asarray(sample_weight, float)
    classes: Any = getattr(estimator, "classes_", ())
    target = np.asarray(y)[:, None]
    if len(classes):
        if not np.isin(target, classes).all():
            raise ValueError(UNKNOWN_CLASSES.format(", ".join(map(str, classes))))
        target = np.where(target == (classes if len(classes) > 2 else classes[1:]), 1.0, -1.0)
    if getattr(estimator, "class_weight", None) is not None:
        if len(classes) > 2:
            raise ValueError("class_weight weighs each class against all others; it is known with two classes")
        weights = weights * compute_sample_weight(estimator.class_weight, y)
    scores = features @ np.atleast_2d(estimator.coef_).T + estimator.intercept_
    columns = np.column_stack([np.ones(len(features)), features]) if estimator.fit_intercept else features
    rows: Floats = columns[:, :, None] * (weights[:, None] * slope(scores, target))[:, None]
    return (rows if rows.shape[2] > 1 else rows[:, :, 0]).astype(features.dtype)


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
    target = np.asarray(y)
    if not isinstance(problem, LogisticRegression | SoftmaxRegression):
        return target.astype(float)
    classes = estimator.classes_
    if not np.isin(target, classes).all():
        raise ValueError(UNKNOWN_CLASSES.format(", ".join(map(str, classes))))
    return np.searchsorted(classes, target)


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
