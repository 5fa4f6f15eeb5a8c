"""What the definitions of several quantities share: lengths and sums of rows, half precision computed in float32."""

from __future__ import annotations

import math
from typing import Any

from gradkernels.backend import Array
from gradkernels.row_norms import cast_like, half, lengths, narrowed, wide
from gradkernels.tree import Tree, each, leaves


def like_theta(n: int, theta: tuple[int, ...], **options: Any) -> tuple[int, ...]:
    """Return theta's shape, the shape of sums over samples.

    Args:
        n: Number of samples.
        theta: Shape.
        options: Of the quantity.
    """
    return theta


def flat_rows(g: Tree) -> list[Array]:
    """Return the arrays of g as matrices `(n, m)`."""
    return [rows.reshape(len(rows), math.prod(rows.shape[1:])) for rows in leaves(g)]


def row_lengths(xp: Any, g: Tree) -> Array:
    """Return the Euclidean norm of each sample's gradient, `(n,)`, in at least float32."""
    return lengths(xp, flat_rows(g))


def means(g: Tree) -> Tree:
    """Return the mean over samples of each array."""
    return each(lambda rows: narrowed(wide(rows).mean(0), rows), g)


def weighted(xp: Any, weights: Array, g: Tree) -> Tree:
    """Sum over samples of weight times row: theta's structure, with the weights' further axes first.

    Args:
        xp: `numpy`, `torch` or `jax.numpy`.
        weights: `(n,)` or `(n, k)`.
        g: Rows.
    """

    def summed(rows: Array) -> Array:
        computed = wide(rows)  # the norms of a module of several dtypes have the widest of them
        return narrowed(xp.tensordot(cast_like(weights, computed), computed, ([0], [0])), rows)

    return each(summed, g)


def matrix_of(direction: Array, axes: int) -> Array:
    """Return one vector `(m,)` of a parameter's shape, or several `(k, m)`.

    Args:
        direction: Of the shape of a parameter, or with one axis more in front.
        axes: Number of axes of the parameter.
    """
    shape = tuple(direction.shape)
    return direction.reshape(*shape[: len(shape) - axes], math.prod(shape[len(shape) - axes :]))


def in_own_dtype(value: Array, g: Tree) -> Array:
    """Return what was computed of all arrays of g in their dtype: half precision where all of them have it."""
    parts = leaves(g)
    return narrowed(value, parts[0]) if all(map(half, parts)) else value
