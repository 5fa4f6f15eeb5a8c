"""Squared norms of sums of outer products, by products of steps: |sum_t g_t a_t^T|^2 = sum_st (g_s . g_t)(a_s . a_t).

That costs t^2 (o + i) / 2 multiplications a sample, against t o i for the row itself (Li et al. 2022, arXiv:2110.05679,
section 4). The products are symmetric and taken in tiles, so that memory does not grow with the square of the length.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch

from gradkernels.backend import Array
from gradkernels.engines.hooks.errors import Unfit
from gradkernels.engines.hooks.precision import widen
from gradkernels.engines.hooks.rules.autotune import is_recording
from gradkernels.engines.hooks.rules.blocks import blocks
from gradkernels.engines.hooks.symmetric import products_of_rows

TILE = 512
"""Steps along each side of a tile."""

PAIR_BYTES = 1 << 24
"""Of the products of some samples' steps with those of all others."""

TILE_BYTES = 1 << 22
"""Of the products of a tile for some samples: what stays in a core's caches."""

NEAR = 4
"""Times as many multiplications: from here on a way is not worth a try."""


PASSES, HALF = 16, 0.6
"""What passes over products of steps take, in multiplications; and how much of all products of rows is multiplied."""


def squared_norms_by_steps(g: Array, a: Array) -> tuple[Array, Array]:
    """Return squared norms `(n,)`, and sums of the squared norms of the terms, from `(n, t, o)` and `(n, t, i)`."""
    of_terms = torch.linalg.vecdot(_squared_lengths(g), _squared_lengths(a))
    squares = torch.zeros_like(of_terms, dtype=twice_the_digits(g[:0]).dtype)
    side = min(TILE, max(1, g.shape[1]))
    for part in blocks(len(g), TILE_BYTES // (2 * side * side * squares.element_size())):
        for rows, columns, times in _tiles(g.shape[1], side):
            of_g, of_a = (_products(factor[part], rows, columns) for factor in (g, a))
            squares[part] += times * torch.linalg.vecdot(of_g.flatten(1), of_a.flatten(1))
    return squares, of_terms


def cheaper_ways(steps: int, o: int, i: int) -> tuple[str, ...]:
    """Return which of `gram` and `rows` may be fastest, what multiplies less first.

    Args:
        steps: Of a sample.
        o: Outputs.
        i: Inputs.
    """
    return _near({"gram": steps * (o + i) * (2 if steps <= TILE else 1), "rows": 2 * o * i})


def cheaper_products(n: int, steps: int, o: int, i: int) -> tuple[str, ...]:
    """Return which of `steps` and `rows` may give the products of each two samples fastest.

    Args:
        n: Number of samples.
        steps: Of a sample.
        o: Outputs.
        i: Inputs.
    """
    return _near({"steps": n * steps**2 * (o + i + PASSES), "rows": o * i * (HALF * n + steps)})


def _near(cost: Mapping[str, float]) -> tuple[str, ...]:
    """Return the way that costs less, and the other one if it may be faster all the same."""
    first, second = sorted(cost, key=lambda way: cost[way])
    return (first, second) if cost[second] < NEAR * cost[first] else (first,)


def twice_the_digits(tensor: Array) -> Array:
    """Widen to the dtype of products of steps: twice the digits where no look at values may say what cancels."""
    return tensor.double() if is_recording() else widen(tensor)


def diagonal(products: Array) -> Array:
    """Return the products of each step with itself."""
    return products.diagonal(dim1=1, dim2=2)


def _squared_lengths(steps: Array) -> Array:
    return torch.linalg.vector_norm(widen(steps), dim=2).square_()


def _products(steps: Array, rows: slice, columns: slice) -> Array:
    return twice_the_digits(steps[:, rows]) @ twice_the_digits(steps[:, columns]).mT


def _tiles(steps: int, side: int) -> Iterator[tuple[slice, slice, int]]:
    """Yield tiles on and below the diagonal, and how often each counts."""
    for row in range(0, steps, side):
        for column in range(0, row + 1, side):
            yield slice(row, row + side), slice(column, column + side), 1 if row == column else 2


def products_of_steps(one: Array, other: Array, columns: Array, others: Array) -> Array:
    """Sum (r_is . r_jt)(c_is . c_jt) over the steps s and t of each two samples, `(n, m)`.

    Args:
        one: r of the samples i, `(n, s, o)`.
        other: r of the samples j, `(m, t, o)`.
        columns: c of the samples i, `(n, s, p)`.
        others: c of the samples j, `(m, t, p)`.
    """
    (m, steps), flat, flats = other.shape[:2], other.flatten(0, 1), others.flatten(0, 1)
    size = max(1, PAIR_BYTES // max(1, one.shape[1] * m * steps * one.element_size()))
    found = [
        ((one[at] @ flat.mT) * (columns[at] @ flats.mT)).sum(1).view(-1, m, steps).sum(2)
        for at in (slice(start, start + size) for start in range(0, len(one), size))
    ]
    return torch.cat(found)


def products_of_samples(rows: Array, columns: Array, more: int = 0) -> Array:
    """Return (r_i . r_j)(c_i . c_j + more) of each two samples, `(n, n)`; (r_is . r_jt)(c_is . c_jt) summed over steps.

    In float64 where squares of r or c leave the range of their dtype, which the products need not.

    Args:
        rows: r, `(n, [t,] o)`.
        columns: c, `(n, [t,] p)`.
        more: What is added, where there are no steps.

    Raises:
        Unfit: They leave that of float64.
    """
    if not is_recording() and not (_squares_are_in_range(rows) and _squares_are_in_range(columns)):
        if rows.dtype is torch.float64:
            raise Unfit("squares of activations or output gradients leave the range of float64; use torch.vmap")
        return products_of_samples(rows.double(), columns.double(), more).to(rows.dtype)
    if rows.ndim == 2:
        return products_of_rows(rows).mul_(products_of_rows(columns).add_(more))
    return products_of_steps(rows, rows, columns, columns)


def _squares_are_in_range(factor: Array) -> bool:
    """Return whether the largest steps of all samples have squared lengths in range, but for those zero or infinite."""
    squares, limits = torch.linalg.vecdot(factor, factor), torch.finfo(factor.dtype)
    squares = squares if squares.ndim == 1 else squares.amax(1)
    low, high = torch.aminmax(squares)
    if low > limits.tiny / limits.eps and high < limits.max:
        return True
    some = factor[~((squares > limits.tiny / limits.eps) & (squares < limits.max))].flatten(1)
    return not bool((some.isfinite().all(1) & some.any(1)).any())
