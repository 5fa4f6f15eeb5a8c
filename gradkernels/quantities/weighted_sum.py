"""The sum of the gradients, each times a weight; or several such sums."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradkernels.backend import Array
from gradkernels.quantities.shared.arguments import by_sample
from gradkernels.quantities.shared.definitions import weighted
from gradkernels.quantity import Draw, Option, Options, Quantity, Truth
from gradkernels.tree import Tree


def _shape(n: int, theta: tuple[int, ...], weights: Array) -> tuple[int, ...]:
    return (*weights.shape[1:], *theta)


def _of(xp: Any, g: Tree, weights: Array) -> Tree:
    return weighted(xp, weights, g)


def _expect(truth: Truth, weights: Any) -> tuple[Any, Any]:
    if weights.ndim == 1:
        return np.einsum("i,i...->...", weights, truth.rows), truth.weighted_scale(np.abs(weights))
    value = np.einsum("ik,i...->k...", weights, truth.rows)
    scales = [truth.weighted_scale(np.abs(column)) for column in weights.T]
    return value, np.stack(scales) if scales else np.zeros_like(value)


def _needs(draw: Draw) -> Options:
    return {"weights": draw.rng.standard_normal(draw.n)}


def _settings(draw: Draw) -> Any:
    yield " with three weightings", {"weights": draw.rng.standard_normal((draw.n, 3))}


WEIGHTED_SUM = Quantity(
    "weighted_sum",
    _shape,
    _of,
    _expect,
    options=(Option("weights", by_sample("weights", 2), required=True, by_sample=True),),
    needs=_needs,
    settings=_settings,
    rank=6,
)
