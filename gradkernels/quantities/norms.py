"""The Euclidean norm of each sample's gradient over all parameters."""

from __future__ import annotations

from typing import Any

from gradkernels.backend import Array
from gradkernels.quantities.shared.definitions import in_own_dtype, row_lengths
from gradkernels.quantity import Quantity, Truth
from gradkernels.tree import Tree


def _shape(n: int, theta: tuple[int, ...]) -> tuple[int, ...]:
    return (n,)


def _of(xp: Any, g: Tree) -> Array:
    return in_own_dtype(row_lengths(xp, g), g)


def _expect(truth: Truth) -> tuple[Any, Any]:
    return truth.norms, truth.norm_scale


NORMS = Quantity("norms", _shape, _of, _expect, writable=True, per_parameter=False, by_sample=True, rank=3)
