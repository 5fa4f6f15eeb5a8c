"""Lengths of gradients, of factors without forming their product."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from gradkernels.backend import Array
from gradkernels.engines.taps.contributions import Contributions, TappedUse
from gradkernels.quantities.shared.definitions import row_lengths

LEAST_LEFT = 1e-3
"""Of the square of a product of factors, as part of what it could be at most; where less is left, it has cancelled."""

SMALLEST_SQUARE = {"float32": 1e-30, "float64": 1e-290}
"""Of that bound, below which products of squares have left the range of a dtype."""


def norms_of(found: Contributions) -> Array:
    """Return the norms over all parameters, `(n,)`."""
    lengths = [_of_factors(use, *factors) for use, factors in zip(found.uses, found.factors, strict=True)]
    if found.rows:
        lengths.append(row_lengths(jnp, tuple(found.rows.values())))
    return length_over_all(lengths)


def lengths_of(found: Contributions) -> list[Array]:
    """Return the lengths over each parameter, `(n,)`, in order."""
    lengths = {place: row_lengths(jnp, rows) for place, rows in found.rows.items()}
    for use, factors in zip(found.uses, found.factors, strict=True):
        lengths[use.leaf] = _of_factors(use, *factors)
    return [lengths[place] for place in range(len(lengths))]


def length_over_all(lengths: list[Array]) -> Array:
    """Return the lengths over several parameters of those over each."""
    return lengths[0] if len(lengths) == 1 else row_lengths(jnp, jnp.stack(lengths, 1))


def is_outer(a: Array) -> bool:
    """Return whether factors are one row each, whose gradient is one outer product."""
    return a.shape[1] == 1 and bool(jnp.issubdtype(a.dtype, jnp.floating))


def _of_factors(use: TappedUse, a: Array, b: Array) -> Array:
    """Return the lengths of the products of factors, `(n,)`: by inner products of their rows where that is less."""
    if is_outer(a):
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


def _is_short(use: TappedUse, a: Array, b: Array) -> bool:
    """Return whether products of rows of factors are fewer numbers than the product of the factors."""
    rows, width = a.shape[1], a.shape[2] + b.shape[2]
    return rows * width < math.prod(use.rule.shape)
