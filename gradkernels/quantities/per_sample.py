"""The gradients one by one."""

from __future__ import annotations

from typing import Any

from gradkernels.quantity import Quantity, Truth
from gradkernels.tree import Tree


def _shape(n: int, theta: tuple[int, ...]) -> tuple[int, ...]:
    return (n, *theta)


def _of(xp: Any, g: Tree) -> Tree:
    return g


def _expect(truth: Truth) -> tuple[Any, Any]:
    return truth.rows, truth.scale


PER_SAMPLE = Quantity("per_sample", _shape, _of, _expect, writable=True, by_sample=True, rank=2)
