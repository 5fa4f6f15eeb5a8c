"""The sum of the gradients, each cut to a length (Abadi et al. 2016)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from gradkernels.quantities.shared.arguments import positive
from gradkernels.quantities.shared.definitions import like_theta, row_lengths, weighted
from gradkernels.quantity import Draw, Option, Options, Quantity, Truth
from gradkernels.tree import Tree


def _of(xp: Any, g: Tree, max_norm: float = 1.0) -> Tree:
    # min(1, max_norm / norm), also for a norm of zero and an infinite max_norm.
    return weighted(xp, 1 / xp.clip(row_lengths(xp, g) / max_norm, min=1.0), g)


def _expect(truth: Truth, max_norm: float = 1.0) -> tuple[Any, Any]:
    with np.errstate(divide="ignore"):
        factor = np.where(truth.norms > max_norm, max_norm / truth.norms, 1.0)
    factor = np.where(np.isnan(truth.norms), np.nan, factor)
    value = np.einsum("i,i...->...", factor, truth.rows)
    # The factor has the norm's relative error, hence the 2.
    return value, 2 * truth.weighted_scale(factor)


def _settings(draw: Draw) -> Iterator[tuple[str, Options]]:
    # Half of the rows clipped, then none, of which the last sum is n times the gradient.
    for max_norm in (float(np.median(draw.norms)), 2 * float(np.max(draw.norms)), math.inf):
        if max_norm > 0:
            yield f" at max_norm={max_norm:.4g}", {"max_norm": max_norm}


CLIPPED_SUM = Quantity(
    "clipped_sum", like_theta, _of, _expect, options=(Option("max_norm", positive),), settings=_settings, rank=5
)
