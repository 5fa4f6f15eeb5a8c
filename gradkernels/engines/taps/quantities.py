"""Norms, sums and inner products of gradients, of factors where there are some: `compute(theta, x, y)`."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp

from gradkernels.backend import Array
from gradkernels.engines.taps.contributions import Contributions, Use, contributions
from gradkernels.engines.taps.rules import Factors
from gradkernels.kernel import Compute
from gradkernels.problems import FunctionProblem
from gradkernels.quantities.shared.definitions import flat_rows, row_lengths
from gradkernels.tree import Tree

LEAST_LEFT = 1e-3
"""Of the square of a product of factors, as part of what it could be at most; where less is left, it has cancelled."""

SMALLEST_SQUARE = {"float32": 1e-30, "float64": 1e-290}
"""Of that bound, below which products of squares have left the range of a dtype."""


def norms(problem: FunctionProblem) -> Compute:
    """Return a compute of the norms, without the rows of weights."""

    @jax.jit
    def compute(theta: Tree, x: Tree, y: Tree) -> Array:
        return norms_of(contributions(problem.loss, theta, x, y))

    return compute


def clipped_sum(problem: FunctionProblem) -> Compute:
    """Return a compute of the clipped sum: norms first, then a weighted product of the same factors."""

    @jax.jit
    def compute(theta: Tree, x: Tree, y: Tree, max_norm: float = 1.0) -> Tree:
        found = contributions(problem.loss, theta, x, y)
        weights = 1 / jnp.clip(norms_of(found) / max_norm, min=1.0)
        return jax.tree.unflatten(jax.tree.structure(theta), weighted(found, weights))

    return compute


def inner(problem: FunctionProblem) -> Compute:
    """Return a compute of the products with one direction or several."""

    @jax.jit
    def compute(theta: Tree, x: Tree, y: Tree, v: Tree) -> Array:
        found, directions = contributions(problem.loss, theta, x, y), jax.tree.leaves(v)
        if directions[0].ndim == found.theta[0].ndim:
            return _along(found, directions)
        return jax.vmap(lambda *one: _along(found, [*one]), out_axes=1)(*directions)

    return compute


def gram(problem: FunctionProblem) -> Compute:
    """Return a compute of the inner products of each two samples, of one batch or of two."""

    @jax.jit
    def compute(theta: Tree, x: Tree, y: Tree, other: tuple[Tree, Tree] | None = None) -> Array:
        ours = contributions(problem.loss, theta, x, y)
        theirs = ours if other is None else contributions(problem.loss, theta, *other)
        total: Any = 0
        for place, rows in ours.rows.items():
            one, two = flat_rows((rows, theirs.rows[place]))
            total = total + one @ two.T
        for use, mine, yours in zip(ours.uses, ours.factors, theirs.factors, strict=True):
            total = total + _products(use, mine, yours)
        return total

    return compute


def weighted(found: Contributions, weights: Array) -> list[Array]:
    """Return the sum of the gradients, each times a weight, of each parameter in order.

    Args:
        found: What a batch leaves.
        weights: `(n,)`.
    """
    sums = {place: jnp.tensordot(weights, rows, 1) for place, rows in found.rows.items()}
    for use, (a, b) in zip(found.uses, found.factors, strict=True):
        sums[use.leaf] = found.pulled(use, use.rule.joined(a, b * weights[:, None, None]))
    return [sums[place] for place in range(len(sums))]


def norms_of(found: Contributions) -> Array:
    """Return the norms `(n,)`."""
    lengths = [_lengths(use, *factors) for use, factors in zip(found.uses, found.factors, strict=True)]
    if found.rows:
        lengths.append(row_lengths(jnp, tuple(found.rows.values())))
    return row_lengths(jnp, jnp.stack(lengths, 1))


def _lengths(use: Use, a: Array, b: Array) -> Array:
    """Return the lengths of the products of factors, `(n,)`: by inner products of their rows where that is less."""
    if a.shape[1] == 1 and jnp.issubdtype(a.dtype, jnp.floating):
        return row_lengths(jnp, a[:, 0]) * row_lengths(jnp, b[:, 0])

    def of_rows() -> Array:
        return row_lengths(jnp, jax.vmap(use.rule.joined)(a, b))

    if not _is_short(use, a, b):
        return of_rows()
    of_a, of_b = use.rule.products(a, a).astype(b.dtype), b @ jnp.swapaxes(b, 1, 2)
    squares = (of_a * of_b).sum((1, 2))
    most = jnp.sqrt(jnp.diagonal(of_a, 0, 1, 2) * jnp.diagonal(of_b, 0, 1, 2)).sum(1) ** 2
    # What is left where rows cancel has lost its digits, and so have numbers whose squares leave the range.
    fine = (squares >= LEAST_LEFT * most) & (most > SMALLEST_SQUARE[str(b.dtype)]) & jnp.isfinite(most)
    return jax.lax.cond((fine | (b == 0).all((1, 2))).all(), lambda: jnp.sqrt(jnp.maximum(squares, 0)), of_rows)


def _is_short(use: Use, a: Array, b: Array) -> bool:
    """Return whether products of rows of factors are fewer numbers than the product of the factors."""
    rows, width = a.shape[1], a.shape[2] + b.shape[2]
    return rows * width < math.prod(use.rule.shape)


def _products(use: Use, mine: Factors, yours: Factors) -> Array:
    """Return the inner products of the gradients of each two samples, `(n, m)`."""
    (a, b), (other_a, other_b) = mine, yours
    if a.shape[1] == 1 and jnp.issubdtype(a.dtype, jnp.floating):
        return (a[:, 0] @ other_a[:, 0].T) * (b[:, 0] @ other_b[:, 0].T)
    one, two = (jax.vmap(use.rule.joined)(*factors) for factors in (mine, yours))
    return one.reshape(len(one), -1) @ two.reshape(len(two), -1).T


def _along(found: Contributions, directions: list[Array]) -> Array:
    total: Any = 0
    for place, rows in found.rows.items():
        total = total + flat_rows(rows)[0] @ directions[place].reshape(-1)
    for use, (a, b) in zip(found.uses, found.factors, strict=True):
        total = total + (use.rule.applied(found.pushed(use, directions[use.leaf]), a) * b).sum((1, 2))
    return total
