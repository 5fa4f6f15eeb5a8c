"""Features, targets and weights of samples, as scikit-learn's estimators read them."""

from __future__ import annotations

from inspect import signature
from typing import Any

import numpy as np

from gradkernels.truth import Floats

ClassWeights = dict[Any, float] | None
"""Factor of the loss of each class's samples, as it was when an estimator was fitted; None where there is none."""

UNKNOWN_CLASSES = "y has classes that were not there to fit; known are {}"
OTHER_COLUMNS = "X has the columns {given}, and the estimator was fitted to {fitted}: give it these, in this order"
UNKNOWN_BALANCE = (
    "class_weight='balanced' goes by the samples of fit(), and this estimator was fitted otherwise: call fit(), or "
    "give the weights of the classes in a dict"
)


def require_fitted(estimator: Any) -> None:
    """Raise scikit-learn's NotFittedError, a ValueError, before there are coefficients."""
    from sklearn.utils.validation import check_is_fitted

    check_is_fitted(estimator, "coef_")


def require_columns(estimator: Any, X: Any) -> None:
    """Raise a ValueError for a table whose columns are others, or in another order, than those that were fitted."""
    fitted, given = getattr(estimator, "feature_names_in_", None), getattr(X, "columns", None)
    if fitted is not None and given is not None and list(given) != list(fitted):
        raise ValueError(OTHER_COLUMNS.format(given=", ".join(map(str, given)), fitted=", ".join(map(str, fitted))))


def features_of(X: Any) -> Floats:
    """Return features `(n, d)` of an array, a table or a sparse matrix."""
    from sklearn.utils import check_array

    features: Any = check_array(X, accept_sparse=True, dtype=(np.float64, np.float32))
    dense: Floats = features.toarray() if hasattr(features, "toarray") else features  # rows are dense anyway
    return dense


def single_column(y: Any) -> Any:
    """Return targets `(n,)`, also of a table of one column, as scikit-learn takes them."""
    target = np.asarray(y)
    return target[:, 0] if target.ndim == 2 and target.shape[1] == 1 else target


def class_weights(estimator: Any, y: Any, sample_weight: Any) -> ClassWeights:
    """Return what an estimator weighs the samples of each class with, given those that it has been fitted to.

    Args:
        estimator: Fitted.
        y: Labels `(n,)`.
        sample_weight: That `fit` was given; None for none.
    """
    from sklearn.utils.class_weight import compute_class_weight

    if getattr(estimator, "class_weight", None) is None:
        return None
    options: dict[str, Any] = {"classes": estimator.classes_, "y": y}
    if "sample_weight" in signature(compute_class_weight).parameters and not _is_sgd(estimator):
        options["sample_weight"] = sample_weight  # from scikit-learn 1.7 on
    weights = compute_class_weight(estimator.class_weight, **options)
    return dict(zip(estimator.classes_.tolist(), weights.tolist(), strict=True))


def _is_sgd(estimator: Any) -> bool:
    """Return whether an estimator balances classes by the number of their samples, not by their weight."""
    from sklearn.linear_model import SGDClassifier

    return isinstance(estimator, SGDClassifier)


def sample_weights(estimator: Any, of_classes: ClassWeights, y: Any, sample_weight: Any, n: int) -> Floats:
    """Return the factor of each sample's loss, `(n,)`.

    Args:
        estimator: Fitted.
        of_classes: What `fit` found; None where it did not run.
        y: Targets or labels, `(n,)`.
        sample_weight: As the caller gave it.
        n: Number of samples.

    Raises:
        ValueError: Weights or labels of another number of samples, unknown labels, or balanced classes that no `fit`
            has counted.
    """
    if len(y) != n:
        raise ValueError(f"X has {n} samples and y has {len(y)}; they must have as many")
    given = np.asarray(1.0 if sample_weight is None else sample_weight, float)
    if given.shape not in ((), (n,)):
        raise ValueError(f"sample_weight is {given.shape}; it must be ({n},) like y, or one number")
    weight: Floats = np.broadcast_to(given, (n,))
    setting = getattr(estimator, "class_weight", None)
    if setting is None:
        return weight
    if isinstance(setting, str) and of_classes is None:
        raise ValueError(UNKNOWN_BALANCE)
    known = of_classes or class_weights(estimator, estimator.classes_, None) or {}
    factors = np.asarray([known[label] for label in estimator.classes_.tolist()])
    weighed: Floats = weight * factors[numbers_of_classes(estimator, y)]
    return weighed


def numbers_of_classes(estimator: Any, y: Any) -> Any:
    """Return the number of each label's class, `(n,)`; raise a ValueError for one that was not there to fit."""
    classes = estimator.classes_
    if not np.isin(y, classes).all():
        raise ValueError(UNKNOWN_CLASSES.format(", ".join(map(str, classes))))
    return np.searchsorted(classes, y)
