"""Quantities of what a batch leaves, compiled: `compute(theta, x, y)`."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from gradkernels.backend import Array
from gradkernels.engines.taps.contributions import Contributions, TappedUse, contributions
from gradkernels.engines.taps.lengths import is_outer, length_over_all, lengths_of, norms_of
from gradkernels.engines.taps.projections import project as projections_of
from gradkernels.engines.taps.rules import Factors
from gradkernels.engines.taps.sums import means_and_variances, weighted_parameter_sums
from gradkernels.kernel import Compute
from gradkernels.problems import FunctionProblem
from gradkernels.quantities.project import KIND, SEED, SIZE
from gradkernels.quantities.shared.definitions import flat_rows
from gradkernels.quantities.shared.groups import Groups, arrays_by_name
from gradkernels.quantity import Moments
from gradkernels.tree import Tree


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
        return _like(theta, weighted_parameter_sums(found, weights))

    return compute


def weighted_sum(problem: FunctionProblem) -> Compute:
    """Return a compute of one weighted sum or several: a product of factors for each weight."""

    @jax.jit
    def compute(theta: Tree, x: Tree, y: Tree, weights: Array) -> Tree:
        return _like(theta, weighted_parameter_sums(contributions(problem.loss, theta, x, y), weights))

    return compute


def norms_by(problem: FunctionProblem) -> Compute:
    """Return a compute of the norms over groups of parameters, without the rows of weights."""

    @partial(jax.jit, static_argnames="by")
    def compute(theta: Tree, x: Tree, y: Tree, by: Groups) -> dict[str, Array]:
        lengths = dict(zip(arrays_by_name(theta), lengths_of(contributions(problem.loss, theta, x, y)), strict=True))
        return {group: length_over_all([lengths[name] for name in names]) for group, names in by}

    return compute


def moments(problem: FunctionProblem) -> Compute:
    """Return a compute of mean and variance, of weights that are used once a sample without their rows."""

    @jax.jit
    def compute(theta: Tree, x: Tree, y: Tree) -> Moments[Tree]:
        return Moments(*(_like(theta, one) for one in means_and_variances(contributions(problem.loss, theta, x, y))))

    return compute


def project(problem: FunctionProblem) -> Compute:
    """Return a compute of random projections."""

    @partial(jax.jit, static_argnames=("size", "seed", "kind"))
    def compute(theta: Tree, x: Tree, y: Tree, size: int = SIZE, seed: int = SEED, kind: str = KIND) -> Array:
        found = contributions(problem.loss, theta, x, y)
        return projections_of(found, [*theta] if isinstance(theta, dict) else [""], size, seed, kind)

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


def _like(theta: Tree, arrays: list[Array]) -> Tree:
    return jax.tree.unflatten(jax.tree.structure(theta), arrays)


def _products(use: TappedUse, mine: Factors, yours: Factors) -> Array:
    """Return the inner products of the gradients of each two samples, `(n, m)`."""
    (a, b), (other_a, other_b) = mine, yours
    if is_outer(a):
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
