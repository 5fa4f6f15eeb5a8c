"""The single passes that a result is held against: one of each sample, or of some outputs of each."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gradkernels.check.modules.sample_passes import CallerBatch
from gradkernels.quantities.shared.outputs import chosen_outputs
from gradkernels.quantity import Quantity
from gradkernels.tree import leaves

MOST_OUTPUTS = 48
"""Passes that the outputs of all samples take together, where that leaves each sample one."""


@dataclass(frozen=True)
class HeldPasses:
    """Single passes, and where a result has what they give.

    Attributes:
        batch: The samples that the passes are of.
        chosen: Their numbers in it.
        outputs: Of each of these, which sample it is among those that were chosen, and the place of its output; None
            where it is that sample.
    """

    batch: CallerBatch
    chosen: Sequence[int]
    outputs: tuple[tuple[int, tuple[int, ...]], ...] | None = None

    def places(self, of_samples: Sequence[int]) -> Sequence[Any]:
        """Return where in a result the passes' gradients are.

        Args:
            of_samples: Where the chosen samples are in it.
        """
        if self.outputs is None:
            return of_samples
        return [(of_samples[sample], *place) for sample, place in self.outputs]


def held_passes(
    quantity: Quantity, batch: CallerBatch, chosen: Sequence[int], rng: random.Random | None = None
) -> HeldPasses:
    """Return the passes of samples that a result of a quantity is held against.

    Args:
        quantity: What was computed.
        batch: Of what.
        chosen: Numbers of the samples.
        rng: Chooses among their outputs, where these are many; None for the same ones each time.
    """
    if not quantity.of_outputs:
        return HeldPasses(batch, chosen)
    axes = tuple(leaves(batch.y)[0].shape[1:])
    size, each = math.prod(axes), max(1, MOST_OUTPUTS // max(1, len(chosen)))
    rng = rng or random.Random(0)
    pairs = [(i, k) for i in range(len(chosen)) for k in sorted(rng.sample(range(size), min(size, each)))]
    x, y = chosen_outputs(batch.x, batch.y, [chosen[i] for i, _ in pairs], [k for _, k in pairs])
    places = tuple((i, tuple(map(int, np.unravel_index(k, axes))) if axes else ()) for i, k in pairs)
    return HeldPasses(replace(batch, x=x, y=y), range(len(pairs)), places)
