"""Squared norms of linear maps of few steps, of all layers together: |sum_t g_t [a_t, 1]^T|^2 by products of steps.

With G_st = g_s . g_t and A_st = a_s . a_t that is the sum of G_st (A_st + 1), the 1 for the bias. Maps of one input
(queries, keys and values of an attention) have one A. An operation for a small layer takes less time than it takes to
start; so but for one product of each g and each input, everything is done once for all maps of as many steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch

from gradkernels.backend import Array
from gradkernels.engines.hooks.parameter_use import CANCELLATION, squared_norm_of_row
from gradkernels.engines.hooks.precision import widen
from gradkernels.engines.hooks.rules.linear.linear import Linear

STEP_PRODUCT_BYTES = 1 << 20
"""Of the products of a layer's steps: larger ones are left to the layer's own rule."""


class StepsMap(NamedTuple):
    """A linear map whose gradient has arrived.

    Attributes:
        use: The map.
        places: Of the targets whose norms are wanted, `weight` among them.
        g: Gradient of its output.
        rows: `(n, t, o)`.
        columns: `(n, t, i)`, its input; of a flipped map the other way round.
    """

    use: Linear
    places: Sequence[Any]
    g: Array
    rows: Array
    columns: Array

    @property
    def nbytes(self) -> int:
        """What is kept for it until it is squared: its gradient and products."""
        n, steps, _ = self.rows.shape
        return self.g.nbytes + 2 * n * steps**2 * self.rows.element_size()


def steps_map(use: Linear, places: Sequence[Any], g: Array) -> StepsMap | None:
    """Return a map for which products of steps are fewer than what rows are made of; None for another one.

    Args:
        use: The map.
        places: Of the targets whose norms are wanted.
        g: Gradient of its output, `(n, ...)`.
    """
    rows, columns = use.factors(g)
    if rows.ndim != 3 or "weight" not in places or rows.dtype is not columns.dtype:
        return None
    (n, steps, o), i = rows.shape, columns.shape[2]
    if not has_few_steps(n, steps, o, i, rows.element_size()):
        return None
    return StepsMap(use, places, g, widen(rows), widen(columns))


def has_few_steps(n: int, steps: int, o: int, i: int, itemsize: int) -> bool:
    """Return whether a map has so few steps that their products are fewer than what rows are made of.

    Args:
        n: Number of samples.
        steps: Of each.
        o: Outputs of the map.
        i: Inputs.
        itemsize: Bytes of an entry.
    """
    return steps * (o + i) <= o * i and n * steps**2 * itemsize <= STEP_PRODUCT_BYTES


def squared_norms_of_maps(maps: Sequence[StepsMap]) -> Array:
    """Return the sum of the maps' squared norms, `(n,)`; those whose terms cancel come from rows."""
    alike = dict[tuple[Any, ...], list[StepsMap]]()
    for one in maps:
        alike.setdefault((one.rows.shape[1], one.rows.dtype), []).append(one)
    found = [_of_alike(some) for some in alike.values()]
    return found[0] if len(found) == 1 else torch.stack([one.to(found[0].dtype) for one in found]).sum(0)


def _of_alike(maps: Sequence[StepsMap]) -> Array:
    """Return the sum of the squared norms of maps of as many steps and of one dtype."""
    of_g, of_a = (_products_of_each([one[at] for one in maps]) for at in (3, 4))
    biases = [len(one.places) > 1 for one in maps]
    if any(biases):
        flipped = [one.use.flipped for one in maps]
        if any(flipped):  # g is among the columns there
            turned = torch.tensor(flipped, device=of_g.device)[:, None, None]
            of_g, of_a = torch.where(turned, of_a, of_g), torch.where(turned, of_g, of_a)
        of_a += 1 if all(biases) else torch.tensor(biases, dtype=of_a.dtype, device=of_a.device)[:, None, None]
    return squares_of_products(of_g, of_a, maps[0].rows.shape[1], lambda layer: maps[layer][:3])


def squares_of_products(
    of_g: Array, of_a: Array, steps: int, term: Callable[[int], tuple[Linear, Sequence[Any], Array]]
) -> Array:
    """Return the sum of the squared norms of maps, `(n,)`, from products of their steps; from rows where they cancel.

    Args:
        of_g: Products of each two steps of the gradients, `(maps, n, steps * steps)`.
        of_a: Those of the inputs, one more where there is a bias.
        steps: Of a sample.
        term: Gives a map, the targets whose norms are wanted, and its gradient.
    """
    with_itself = slice(None, None, steps + 1)  # a step's product
    squares = torch.linalg.vecdot(of_g, of_a)
    of_terms = torch.linalg.vecdot(of_g[..., with_itself], of_a[..., with_itself])
    for layer, at in (squares < CANCELLATION * of_terms).nonzero().tolist():
        use, places, g = term(layer)
        squares[layer, at] = sum(squared_norm_of_row([(use, place, g)], at) for place in places)
    return squares.sum(0)


def _products_of_each(factors: Sequence[Array]) -> Array:
    """Return the products of each two steps, `(maps, n, t * t)`, of what is given several times once."""
    places, at = dict[Any, int](), list[int]()
    distinct = list[Array]()
    for one in factors:
        key = one.data_ptr(), one.shape, one.stride()
        if key not in places:
            places[key] = len(distinct)
            distinct.append(one)
        at.append(places[key])
    n, steps, _ = factors[0].shape
    products = factors[0].new_empty((len(distinct), n, steps, steps))
    for one, out in zip(distinct, products, strict=True):
        torch.bmm(one, one.mT, out=out)
    flat = products.flatten(2)
    return flat if len(distinct) == len(at) else flat[at]
