"""The mixin, which stands before the class of a linear estimator."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import signature
from typing import Any

from gradkernels.adapters.sklearn.regressions import loss_of, targets_of, theta_of
from gradkernels.adapters.sklearn.samples import (
    ClassWeights,
    class_weights,
    features_of,
    require_columns,
    require_fitted,
    sample_weights,
    single_column,
)
from gradkernels.adapters.sklearn.slopes import rows_of_scores, slope_of
from gradkernels.fastest.of_gradients import per_sample
from gradkernels.truth import Floats


class PerSampleGradients:
    """Gives a linear estimator `per_sample_gradients_` after `fit`: put it before the estimator's class.

    `class Model(PerSampleGradients, LogisticRegression): pass`. Each row is the gradient of a sample's loss, as the
    estimator weighs it, with respect to intercept (first) and coefficients; the penalty is none of a sample's, and left
    out. Rows are `(n, d+1)`, or `(n, d)` without an intercept; with K > 2 classes `(n, d+1, K)` or `(n, d, K)`.

    Attributes:
        per_sample_gradients_: Of the samples that `fit` was given; gone after a `partial_fit`, which moves on.
    """

    per_sample_gradients_: Floats
    _class_weights: ClassWeights = None

    def __init_subclass__(cls, **options: Any) -> None:
        """Have `partial_fit`, where the estimator has one, let go of the rows of an earlier `fit`."""
        super().__init_subclass__(**options)
        if "partial_fit" not in vars(cls) and hasattr(cls, "partial_fit"):
            cls.partial_fit = _without_rows(cls.partial_fit)

    def fit(self, X: Any, y: Any, *further: Any, sample_weight: Any = None, **options: Any) -> Any:
        """Fit the estimator, and compute the gradient of each sample's loss there.

        Args:
            X: Features `(n, d)`.
            y: Targets `(n,)`.
            further: Arguments of the estimator's own `fit`, by its positions: `coef_init` first of SGD.
            sample_weight: Factor of each sample's loss `(n,)`; None for 1.
            options: Further arguments of the estimator's own `fit`, by name.
        """
        own: Callable[..., Any] = super().fit  # type: ignore[misc]
        weight = {} if sample_weight is None else {"sample_weight": sample_weight}
        given = signature(own).bind(X, y, *further, **weight, **options)
        fitted = own(*given.args, **given.kwargs)
        sample_weight = given.arguments.get("sample_weight", sample_weight)
        self._class_weights = class_weights(self, single_column(y), sample_weight)
        self.per_sample_gradients_ = self.per_sample_gradients(X, y, sample_weight)
        return fitted

    def per_sample_gradients(self, X: Any, y: Any, sample_weight: Any = None) -> Floats:
        """Compute the gradient of each sample's loss at the fitted parameters.

        Args:
            X: Features `(n, d)`; in the columns that the estimator was fitted to.
            y: Targets `(n,)`.
            sample_weight: Factor of each sample's loss `(n,)`, or of all; None for 1. Those of classes come on top,
                as they were when the estimator was fitted.

        Raises:
            ValueError: An estimator whose loss is none of a linear predictor that gradkernels has.
        """
        require_fitted(self)
        require_columns(self, X)
        features, target = features_of(X), single_column(y)
        slope = slope_of(self)
        weight = sample_weights(self, self._class_weights, target, sample_weight, len(features))
        if slope is not None:
            return rows_of_scores(self, slope, features, target, weight)
        problem, factor = loss_of(self)
        weight = factor * weight
        numbers = targets_of(self, problem, target)
        weights = None if bool((weight == 1).all()) else weight.astype(features.dtype)
        theta = theta_of(self, problem).astype(features.dtype)
        rows: Floats = per_sample(problem, theta, features, numbers, sample_weight=weights)
        return rows


def _without_rows(partial_fit: Callable[..., Any]) -> Callable[..., Any]:
    """Return an estimator's `partial_fit` after which there are no rows of an earlier `fit`."""

    @wraps(partial_fit)
    def moved(self: Any, *args: Any, **options: Any) -> Any:
        vars(self).pop("per_sample_gradients_", None)
        return partial_fit(self, *args, **options)

    return moved
