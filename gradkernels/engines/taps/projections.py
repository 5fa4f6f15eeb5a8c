"""Random projections of gradients: by matrices from both sides, of the factors of a product without forming it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from gradkernels.backend import Array
from gradkernels.engines.taps.contributions import Contributions, TappedUse
from gradkernels.engines.taps.convolutions import PatchProduct
from gradkernels.engines.taps.rules import Factors, LookUp, MatrixProduct
from gradkernels.quantities.project import as_like, project_rows
from gradkernels.quantities.shared.projections import factors as random_factors


def project(found: Contributions, names: Sequence[str], size: int, seed: int, kind: str) -> Array:
    """Return the projections `(n, size)`.

    Args:
        found: What a batch leaves.
        names: Of the parameters, in order.
        size: Dimensions.
        seed: Of the matrices.
        kind: `gaussian` or `factored`.
    """
    total = jnp.zeros((len(found.outputs[0]), size), found.theta[0].dtype)
    for use, pair in zip(found.uses, found.factors, strict=True):
        name, shape = names[use.leaf], tuple(found.theta[use.leaf].shape)
        if kind == "factored" and len(shape) > 1 and _is_as_it_is(found, use):
            outputs, inputs = (as_like(one, total).T for one in random_factors(seed, name, shape, size))
            left, right = _from_both_sides(use, pair, outputs, inputs)
            total = total + jnp.einsum("ntk,ntl->nkl", left, right).reshape(total.shape)
        else:
            rows = jax.vmap(lambda a, b, use=use: found.pulled(use, use.rule.joined(a, b)))(*pair)
            total = total + project_rows(rows.reshape(len(rows), math.prod(shape)), name, shape, size, seed, kind)
    for place, rows in found.rows.items():
        shape = tuple(rows.shape[1:])
        flat = rows.reshape(len(rows), math.prod(shape))
        total = total + project_rows(flat, names[place], shape, size, seed, kind)
    return total


def _is_as_it_is(found: Contributions, use: TappedUse) -> bool:
    """Return whether a parameter is used in the shape it has, by its first axis or by all others."""
    if use.value != found.program.leaves[use.leaf]:
        return False
    if isinstance(use.rule, PatchProduct):
        return use.rule.first_is_output
    return isinstance(use.rule, LookUp) or use.rule.weight_axes in ((0,), tuple(range(1, len(use.rule.shape))))


def _from_both_sides(use: TappedUse, pair: Factors, outputs: Array, inputs: Array) -> Factors:
    """Return factors times the matrices of a parameter's first axis and of its others, `(n, T, k)` and `(n, T, l)`.

    Args:
        use: Of a parameter that `_is_as_it_is`.
        pair: Factors.
        outputs: `(shape[0], k)`.
        inputs: `(columns, l)`.
    """
    a, b = pair
    if isinstance(use.rule, LookUp) or (isinstance(use.rule, MatrixProduct) and use.rule.weight_axes == (0,)):
        return use.rule.applied(outputs, a), b @ inputs
    return b @ outputs, use.rule.applied(inputs, a)
