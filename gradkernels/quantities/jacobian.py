"""The gradient of each output of each sample: the Jacobian of a model by its parameters."""

from __future__ import annotations

import math
from typing import Any

from gradkernels.backend import Array
from gradkernels.quantity import Quantity, Truth
from gradkernels.tree import Tree, each


def _shape(n: int, theta: tuple[int, ...], outputs: tuple[int, ...] = ()) -> tuple[int, ...]:
    return (n, *outputs, *theta)


def _of(xp: Any, g: Tree, outputs: tuple[int, ...] = ()) -> Tree:
    """Give the rows of outputs, all those of a sample one after the other, the axes of samples and outputs."""
    size = math.prod(outputs)

    def apart(rows: Array) -> Array:
        return rows.reshape(len(rows) // max(1, size), *outputs, *rows.shape[1:])

    return each(apart, g)


def _expect(truth: Truth) -> tuple[Any, Any]:
    return truth.rows, truth.scale


JACOBIAN = Quantity("jacobian", _shape, _of, _expect, writable=True, by_sample=True, of_outputs=True, rank=15)
