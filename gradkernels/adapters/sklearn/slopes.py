"""Losses of scikit-learn's linear estimators that are no regression here: derivatives by the samples' scores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gradkernels.adapters.sklearn.samples import numbers_of_classes
from gradkernels.truth import Floats

Slope = Callable[[Any, Any], Any]
"""Derivative of samples' losses by their scores, of scores and targets; classes are targets 1 and -1, `(n, K)`."""

JOINT = "LinearSVC is known with multi_class='ovr', a loss for each class, not {!r}"


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
            if getattr(estimator, "multi_class", "ovr") != "ovr":
                raise ValueError(JOINT.format(estimator.multi_class))
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


def rows_of_scores(estimator: Any, slope: Slope, features: Floats, y: Any, weights: Floats) -> Floats:
    """Return rows `(n, d+1)`, or `(n, d+1, K)` with one score for each class.

    Args:
        estimator: Fitted.
        slope: Of its loss.
        features: `(n, d)`.
        y: Targets or labels, `(n,)`.
        weights: Factor of each sample's loss, `(n,)`.
    """
    classes: Any = getattr(estimator, "classes_", ())
    target = y[:, None]
    if len(classes):
        numbers = numbers_of_classes(estimator, y)[:, None]
        target = np.where(numbers == (np.arange(len(classes)) if len(classes) > 2 else 1), 1.0, -1.0)
        if len(classes) > 2 and getattr(estimator, "class_weight", None) is not None:
            raise ValueError("class_weight weighs each class against all others; it is known with two classes")
    scores = features @ np.atleast_2d(estimator.coef_).T + estimator.intercept_
    columns = np.column_stack([np.ones(len(features)), features]) if estimator.fit_intercept else features
    rows: Floats = columns[:, :, None] * (weights[:, None] * slope(scores, target))[:, None]
    return (rows if rows.shape[2] > 1 else rows[:, :, 0]).astype(features.dtype)
