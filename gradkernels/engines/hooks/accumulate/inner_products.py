"""Inner products of the rows that two uses of one parameter give, without forming them.

|e + h|^2 = |e|^2 + |h|^2 + 2 e.h for a parameter that is used twice, such as a table of words that is also the last
layer's weight (the idea is in https://github.com/pytorch/opacus, pull request 802).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any

import torch

from gradkernels.backend import Array
from gradkernels.engines.hooks.parameter_use import CANCELLATION, ParameterUse, squared_norm_of_row
from gradkernels.engines.hooks.precision import widen
from gradkernels.engines.hooks.rules.linear.linear import Linear
from gradkernels.engines.hooks.rules.lookup.embedding import EmbeddingTable

MOST_USES = 6
"""Of one parameter; there is an inner product for each pair of them."""

PRODUCT_BYTES = 1 << 24
"""Of products of steps at a time."""

UseTerm = tuple[ParameterUse, Any, Array]
"""A use, its target, and the gradient of its output."""


Complete = Callable[[Array, Array, Sequence[UseTerm]], Array]
"""`complete(squares, of_terms, terms)`: squared norms, with what is done where their terms cancel."""


def replace_cancelled(squares: Array, of_terms: Array, terms: Sequence[UseTerm]) -> Array:
    """Replace squared norms by those of formed rows where the terms cancel.

    Args:
        squares: Squared norms `(n,)`, overwritten.
        of_terms: Sums of the terms' own squared norms.
        terms: The uses, targets and gradients whose rows are added.
    """
    for at in (squares < CANCELLATION * of_terms).nonzero().flatten().tolist():
        squares[at] = squared_norm_of_row(terms, at)
    return squares


def squared_norms_without_rows(terms: Sequence[UseTerm], complete: Complete | None) -> Array | None:
    """Return squared norms `(n,)` of a parameter's rows from all of its uses; None where rows are needed for that.

    Args:
        terms: The uses, targets and gradients.
        complete: What completes those that follow from inner products of the uses; None where none may.
    """
    if not terms or not all(use.targets[place].direct for use, place, _ in terms):
        return None
    if len(terms) == 1:
        ((use, place, g),) = terms
        return use.squared_norms(place, g)
    return squared_norms_by_products(terms, complete) if complete else None


def squared_norms_by_products(terms: Sequence[UseTerm], complete: Complete = replace_cancelled) -> Array | None:
    """Return the squared norms `(n,)` of sums of several uses' rows; None where a pair of them has no rule."""
    if len(terms) > MOST_USES:
        return None
    products = list[Array]()
    for one, other in combinations(terms, 2):
        product = _inner(one, other)
        if product is None:
            return None
        products.append(product)
    total = sum(use.squared_norms(target, g) for use, target, g in terms) + 2 * sum(products)
    of_terms = sum(use.squared_norms_of_terms(target, g) for use, target, g in terms)
    return complete(total, of_terms, terms)


def _inner(one: UseTerm, other: UseTerm) -> Array | None:
    (first, target, g), (second, another, h) = one, other
    first, second = first.rule, second.rule
    if isinstance(first, Linear) and isinstance(second, Linear) and target == another:
        return _of_linear_maps(first, target, g, second, h)
    if isinstance(first, EmbeddingTable) and isinstance(second, EmbeddingTable):
        return _of_tables(first, g, second, h)
    if isinstance(first, EmbeddingTable) and isinstance(second, Linear) and another == "weight":
        return _of_table_and_map(first, g, second, h)
    if isinstance(first, Linear) and isinstance(second, EmbeddingTable) and target == "weight":
        return _of_table_and_map(second, h, first, g)
    return None


def _of_linear_maps(one: Linear, target: Any, g: Array, other: Linear, h: Array) -> Array:
    """Sum (r_s . r_t)(c_s . c_t) over steps s and t; for biases multiply their sums."""
    if target == "bias":
        return torch.linalg.vecdot(*(widen(part.flatten(1, -2).sum(1) if part.ndim > 2 else part) for part in (g, h)))
    (rows, columns), (more, others) = (map(_steps, use.factors(part)) for use, part in ((one, g), (other, h)))

    def of(at: slice) -> Array:
        return torch.linalg.vecdot((rows[:, at] @ more.mT).flatten(1), (columns[:, at] @ others.mT).flatten(1))

    return _over_steps(of, rows, more.shape[1])


def _of_tables(one: EmbeddingTable, g: Array, other: EmbeddingTable, h: Array) -> Array:
    """Sum g_s . h_t over places s and t of the same word."""
    left, right = widen(one.terms(g)), widen(other.terms(h))

    def of(at: slice) -> Array:
        same = one.words[:, at, None] == other.words[:, None, :]
        return (left[:, at] @ right.mT).mul_(same).flatten(1).sum(1)

    return _over_steps(of, left, right.shape[1])


def _of_table_and_map(table: EmbeddingTable, g: Array, one: Linear, h: Array) -> Array:
    """Sum r_s[word t] (c_s . g_t) over steps s and words t."""
    rows, columns = map(_steps, one.factors(h))
    terms = widen(table.terms(g))

    def of(at: slice) -> Array:
        picked = rows[:, at]
        words = table.words[:, None, :].expand(-1, picked.shape[1], -1)
        return torch.linalg.vecdot(picked.gather(2, words).flatten(1), (columns[:, at] @ terms.mT).flatten(1))

    return _over_steps(of, rows, terms.shape[1])


def _over_steps(of: Callable[[slice], Array], steps: Array, others: int) -> Array:
    """Sum products of some steps `(n, t, ...)` with all of the other use, as many as memory is meant for."""
    size = max(1, PRODUCT_BYTES // max(1, len(steps) * others * steps.element_size()))
    return sum(of(slice(start, start + size)) for start in range(0, steps.shape[1], size))


def _steps(tensor: Array) -> Array:
    return widen(tensor if tensor.ndim == 3 else tensor[:, None])
