"""What wrong rows are: right ones times a number, those of other samples, or the same for every sample."""

from __future__ import annotations

import numpy as np

from gradkernels.truth import Floats

CLOSE = 1e-2
"""Relative distance up to which a wrong row is taken for a multiple of the right one, or for another sample's."""

MEAN_LEFT_IN = "every row is 1/n of its sample's gradient: the 1/n of a mean loss is left in; multiply by n"
SCALED_BY_N = (
    "every row is n times its sample's gradient: it was taken for a part of a mean's, but the loss is a sum "
    "(check loss_reduction)"
)


def diagnosed(found: Floats, want: Floats) -> str:
    """Say what rows are, `(n, m)`, that are not what they should be; nothing where that cannot be told.

    Args:
        found: What the tool gave, of the parameters that are wrong.
        want: What it should have given.
    """
    if not (np.isfinite(found).all() and np.isfinite(want).all()) or not found.size:
        return ""
    length = np.linalg.norm(want, axis=1)
    if not length.max() > 0:
        return ""
    if not found.any():
        return "every row is zero"
    return _multiple(found, want, length) or _same_rows(found, want) or _reordered(found, want, length)


def _multiple(found: Floats, want: Floats, length: Floats) -> str:
    """Say by what factor rows are off, if all of them are multiples."""
    told = length > 1e-3 * length.max()
    factors = (found[told] * want[told]).sum(1) / length[told] ** 2
    rest = np.linalg.norm(found[told] - factors[:, None] * want[told], axis=1)
    if (rest > CLOSE * np.abs(factors) * length[told]).any():
        return ""
    low, high, n = float(factors.min()), float(factors.max()), len(found)
    if high - low > CLOSE * max(abs(low), abs(high)):
        says = f"each row is its sample's gradient times a factor of its own, from {low:.4g} to {high:.4g}"
        return f"{says}: a batch's mean weighs samples, by their lengths for instance"
    factor = float(np.median(factors))
    if abs(factor - 1) <= CLOSE:
        return ""
    if n > 1 and abs(factor * n - 1) <= CLOSE:
        return MEAN_LEFT_IN
    if n > 1 and abs(factor / n - 1) <= CLOSE:
        return SCALED_BY_N
    return f"every row is {factor:.4g} times its sample's gradient"


def _same_rows(found: Floats, want: Floats) -> str:
    """Say so where every row is the batch's gradient."""
    if len(found) < 2 or np.linalg.norm(found - found[0]) > CLOSE * np.linalg.norm(found):
        return ""
    for name, one in (("mean", want.mean(0)), ("sum", want.sum(0))):
        if np.linalg.norm(found[0] - one) <= CLOSE * np.linalg.norm(one):
            return f"every row is the {name} of the samples' gradients"
    return "every row is the same"


def _reordered(found: Floats, want: Floats, length: Floats) -> str:
    """Say whose gradients the rows are, if they are those of the batch in another order."""
    distances = np.linalg.norm(found[:, None] - want[None], axis=2)
    nearest = distances.argmin(1)
    if (distances.min(1) > CLOSE * np.maximum(length[nearest], 1e-3 * length.max())).any():
        return ""
    moved = np.flatnonzero(distances[np.arange(len(found)), np.arange(len(found))] > CLOSE * length.max())
    if not moved.size:
        return ""
    return f"rows are in another order: row {moved[0]} is the gradient of sample {nearest[moved[0]]}"
