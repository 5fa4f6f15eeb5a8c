"""What rounding does to references that are computed by backward passes, of modules and of functions alike.

Where a loss is nearly flat, a row is a small difference of large numbers, which no working precision can know to its
own size; and where a ReLU is at its kink, rounding decides on which side. Such rows are told by passes at parameters
that are changed a little.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from gradkernels.tree import Tree, each
from gradkernels.truth import Floats

MIXING_TOLERANCES = {
    "float64": 1e-6,
    "float32": 1e-3,
    "own": 0.05,
}  # relative; also where a layer computes in float32 whatever it is given
CHANGES = {"float64": 2.0**-48, "float32": 2.0**-19, "bfloat16": 2.0**-7, "float16": 2.0**-10}
"""Relative change of parameters that moves inner products by more than rounding does; halves add up in float32."""

PAIRS_OF_CHANGES = 2
SCALE_FLOOR = float(np.finfo(np.float32).eps)  # of the largest scale


def row_scales(rows: Floats) -> Floats:
    """Return the rounding scale of each row of `(n, p)`: its norm, or what is left of the largest one in float32."""
    scale = np.linalg.norm(rows, axis=1)
    return np.asarray(np.maximum(scale, SCALE_FLOOR * scale.max(initial=0.0, where=np.isfinite(scale))))


def mixes_samples(rows: Floats, gradient: Floats, dtype: str) -> bool:
    """Return whether the gradient of a batch is not the mean of the rows of its samples, as far as these are finite.

    Args:
        rows: Gradient of each sample alone, `(n, p)`.
        gradient: Of the mean loss of the batch, `(p,)`.
        dtype: What both were computed in; `own` for each tensor in its own.
    """
    mean, scale = rows.mean(0), np.linalg.norm(rows, axis=1).mean()
    return bool(np.isfinite(scale) and np.linalg.norm(gradient - mean) > MIXING_TOLERANCES[dtype] * scale)


def changed_a_little(theta: Tree, by: float) -> Iterator[Tree]:
    """Yield parameters times 1 + `by` or 1 - `by`, entry by entry at random, and then those with the other signs.

    A change moves the inputs of each layer as rounding does, and a bit more. Each is made both ways, since one of the
    two takes a kink that is near to its other side.
    """
    generator = np.random.default_rng(0)
    for _ in range(PAIRS_OF_CHANGES):
        signs = each(lambda array: generator.choice([-by, by], np.shape(array)), theta)
        yield each(lambda array, sign: array * (1 + sign), theta, signs)
        yield each(lambda array, sign: array * (1 - sign), theta, signs)


def largest_distances(errors: Floats, found: Any, rows: Floats) -> Floats:
    """Return the larger of what is known and the distance of each row from another one; 0 where none is finite.

    Args:
        errors: What is known, `(k,)`.
        found: Other rows, `(k, p)`.
        rows: Those they stand beside, `(k, p)`.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        distances = np.linalg.norm(found - rows, axis=1)
    return np.asarray(np.maximum(errors, np.nan_to_num(distances, posinf=0.0)))
