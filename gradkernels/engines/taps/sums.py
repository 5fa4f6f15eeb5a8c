"""Sums of gradients and of their squares, of factors without forming their product where they are one row each."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from gradkernels.backend import Array
from gradkernels.engines.taps.contributions import Contributions
from gradkernels.engines.taps.lengths import is_outer


def weighted_parameter_sums(found: Contributions, weights: Array) -> list[Array]:
    """Return the sum of the gradients, each times a weight, of each parameter in order.

    Args:
        found: What a batch leaves.
        weights: `(n,)`, or of k sums `(n, k)`.
    """
    if weights.ndim > 1:
        return jax.vmap(lambda one: weighted_parameter_sums(found, one), in_axes=1)(weights)
    sums = {place: jnp.tensordot(weights, rows, 1) for place, rows in found.rows.items()}
    # NaN times zero is NaN, also of what is never formed: words of a table that no sample has.
    odd = jnp.where(jnp.isnan(weights).any(), jnp.nan, 0.0)
    for use, (a, b) in zip(found.uses, found.factors, strict=True):
        sums[use.leaf] = found.pulled(use, use.rule.joined(a, b * weights[:, None, None])) + odd
    return [sums[place] for place in range(len(sums))]


def means_and_variances(found: Contributions) -> tuple[list[Array], list[Array]]:
    """Return the means of the gradients, and their variances divided by n, of each parameter in order."""
    means, variances = dict[int, Array](), dict[int, Array]()
    for place, rows in found.rows.items():
        means[place], variances[place] = rows.mean(0), rows.var(0)
    for use, (a, b) in zip(found.uses, found.factors, strict=True):
        if is_outer(a):
            mean, square = a[:, 0].T @ b[:, 0] / len(a), (a[:, 0] ** 2).T @ b[:, 0] ** 2 / len(a)
            variance = jnp.maximum(square - mean**2, 0)
        else:
            rows = jax.vmap(use.rule.joined)(a, b)
            mean, variance = rows.mean(0), rows.var(0)
        # What is used is the parameter with its entries in another order, so that squares go back as entries do.
        means[use.leaf], variances[use.leaf] = found.pulled(use, mean), found.pulled(use, variance)
    order = range(len(means))
    return [means[place] for place in order], [variances[place] for place in order]
