"""Mean and biased variance of the gradients over samples."""

from __future__ import annotations

from typing import Any

from gradkernels.backend import Array
from gradkernels.quantities.shared.definitions import like_theta, means
from gradkernels.quantity import Moments, Quantity, Truth
from gradkernels.row_norms import narrowed, wide
from gradkernels.tree import Tree, each


def _of(xp: Any, g: Tree) -> Moments[Any]:
    return Moments(means(g), each(_variance, g))


def _variance(rows: Array) -> Array:
    rows, own = wide(rows), rows
    return narrowed(((rows - rows.mean(0)) ** 2).mean(0), own)


def _expect(truth: Truth) -> tuple[Any, Any]:
    # E[g^2] - E[g]^2 loses to cancellation what the two-pass form does not: both are allowed.
    value = Moments(truth.gradient, truth.variance)
    return value, Moments(truth.mean_scale, 2 * truth.mean_square_scale)


MOMENTS = Quantity("moments", like_theta, _of, _expect, averages=True, squares=True, rank=4)
