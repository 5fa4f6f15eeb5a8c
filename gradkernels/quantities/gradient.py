"""The gradient of the mean loss."""

from __future__ import annotations

from typing import Any

from gradkernels.quantities.shared.definitions import like_theta, means
from gradkernels.quantity import Quantity, Truth
from gradkernels.tree import Tree


def _of(xp: Any, g: Tree) -> Tree:
    return means(g)


def _expect(truth: Truth) -> tuple[Any, Any]:
    return truth.gradient, truth.mean_scale


GRADIENT = Quantity("gradient", like_theta, _of, _expect, averages=True, rank=1)
