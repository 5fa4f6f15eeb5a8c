"""What the targets of a weighted regression come with: a weight for each sample."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from gradkernels.truth import Floats


class Weighted(NamedTuple):
    """The `y` of a weighted problem.

    Attributes:
        target: `(n,)`.
        sample_weight: `(n,)`, by which each sample's loss is multiplied.
    """

    target: Any
    sample_weight: Any


def draw_weights(n: int, seed: int) -> Floats:
    """Draw n weights uniformly from [0, 2), the same for the same arguments."""
    return np.random.default_rng([seed, 2]).uniform(0, 2, n)
