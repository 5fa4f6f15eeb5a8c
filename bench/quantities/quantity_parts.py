"""The arrays of a result as they must be, and how far from them what came back is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from gradkernels.check import Disagreement
from gradkernels.tree import named


@dataclass(frozen=True)
class Part:
    """One array of a result as it must be.

    Attributes:
        name: Of the parameter or group that it is of; empty for an array of its own.
        value: float64, `(m, columns)`.
        scale: Of its rounding errors, to be broadcast to it.
        at: Numbers of the rows of `value` that the result has one after another; None for all of them.
    """

    name: str
    value: Any
    scale: Any
    at: Any = None

    def error(self, found):
        """Worst error of an entry of what was found, relative to its scale; infinite where it is not finite."""
        rows = np.arange(len(self.value)) if self.at is None else self.at
        found = torch.as_tensor(found).detach()
        if found.numel() != len(rows) * self.value.shape[1]:
            raise Disagreement(f"{self.name or 'the result'} is {tuple(found.shape)}, expected {len(rows)} rows of "
                               f"{self.value.shape[1]}")  # fmt: skip
        worst, found = 0.0, found.reshape(len(rows), -1)
        scale = np.broadcast_to(self.scale, self.value.shape)
        for start in range(0, len(rows), len(self.value)):
            some = rows[start : start + len(self.value)]
            got = found[start : start + len(self.value)].double().numpy()
            with np.errstate(invalid="ignore", divide="ignore"):
                off = np.abs(got - self.value[some])
                error = np.where(off == 0, 0.0, off / scale[some]).max(initial=0.0)
            worst = max(worst, float(error)) if np.isfinite(error) else np.inf
        return worst


def worst_error(result, parts):
    """Worst error of a result, a tree of arrays.

    Args:
        result: What a way returned.
        parts: What it must be, in order.

    Raises:
        Disagreement: It has other arrays, or of other sizes.
    """
    found = dict(named("", result))
    names = [place[place.find("['") + 2 : -2] if place.endswith("']") else "" for place in found]
    if names != (wanted := [part.name for part in parts]):
        raise Disagreement(f"the result has the arrays {names[:4]}, expected {wanted[:4]}")
    return max(part.error(array) for part, array in zip(parts, found.values(), strict=True))


def folded(weights, at, rows):
    """Add up the weights `(n, k)` of equal samples: `(rows, k)`.

    Args:
        weights: Of each sample.
        at: Its row, `(n,)`.
        rows: How many there are.
    """
    total = np.zeros((rows, weights.shape[1]))
    np.add.at(total, at, weights)
    return total
