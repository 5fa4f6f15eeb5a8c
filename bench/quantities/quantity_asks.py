"""What is asked in the suite: the functions of gradkernels with the options that they are timed with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch

from gradkernels.names import pick
from gradkernels.tree import take

SIZE, SEED = 512, 0
"""Of projections."""

DIRECTIONS = 8
GROUPS = 8
CLUSTERS = 5000
OTHER_SAMPLES = 32
"""Of the second batch of a Gram matrix, at most."""

GAMMA = 0.01


@dataclass(frozen=True)
class Draw:
    """What options are drawn for.

    Attributes:
        n: Number of samples.
        theta: Parameters by name, tensors; of a regression one array.
        batch: `(x, y)`, the samples.
        lengths: Norms of some samples' gradients over each parameter, by name.
    """

    n: int
    theta: Any
    batch: tuple[Any, Any]
    lengths: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def rng(self):
        """A generator that starts afresh."""
        return np.random.default_rng(self.n)

    def normals(self, *shape):
        """Standard normals as a float32 tensor."""
        return torch.from_numpy(self.rng.standard_normal(shape).astype(np.float32))

    def directions(self, *leading):
        """Standard normals of theta's structure."""
        return {name: self.normals(*leading, *part.shape) for name, part in self.theta.items()}

    @property
    def max_norm(self):
        """A length that about half of all norms by parameter are above."""
        return float(np.median(np.concatenate(list(self.lengths.values()))))


@dataclass(frozen=True)
class Ask:
    """One call.

    Attributes:
        quantity: Name of the function.
        options: How tables and the file write its options.
        draw: `draw(Draw)`, the options as the function takes them.
        regression: Whether it is asked of regressions, and not of modules.
        computed_as: Name of the quantity whose kernels compute it; by default that of the function.
    """

    quantity: str
    options: str
    draw: Callable[[Draw], dict[str, Any]] = lambda draw: {}
    regression: bool = False
    computed_as: str = ""

    @property
    def label(self):
        """`inner K=8`."""
        return f"{self.quantity} {self.options}".strip()


def _other(draw):
    return {"other": take(draw.batch, slice(None, OTHER_SAMPLES))}


def _clipped(options, draw):
    return Ask("clipped_sum", options, draw, computed_as="clipped_sum_by")


def _groups(draw):
    return {"groups": draw.rng.integers(0, GROUPS, draw.n), "count": GROUPS}


ASKS = {
    ask.label: ask
    for ask in (
        Ask("norms", "by=parameter", lambda draw: {"by": "parameter"}, computed_as="norms_by"),
        Ask("inner", "K=1", lambda draw: {"v": draw.directions()}),
        Ask("gram", ""),
        Ask("project", "factored", lambda draw: {"size": SIZE, "seed": SEED, "kind": "factored"}),
        _clipped("by=parameter", lambda draw: {"max_norm": draw.max_norm, "by": "parameter"}),
        _clipped("rule=automatic", lambda draw: {"max_norm": 1.0, "rule": "automatic", "gamma": GAMMA}),
        _clipped("norms_out", lambda draw: {"max_norm": draw.max_norm, "norms_out": True}),
        Ask("weighted_sum", "K=1", lambda draw: {"weights": draw.normals(draw.n)}),
        Ask("weighted_sum", "K=8", lambda draw: {"weights": draw.normals(draw.n, DIRECTIONS)}),
        Ask("inner", "K=8", lambda draw: {"v": draw.directions(DIRECTIONS)}),
        Ask("gram", "other", _other),
        Ask("group_sums", f"count={GROUPS}", _groups),
        Ask("per_sample", "flat", lambda draw: {"flat": True}),
        Ask("project", "gaussian", lambda draw: {"size": SIZE, "seed": SEED, "kind": "gaussian"}),
        Ask("outer", "", regression=True),
        Ask("outer", f"groups of {CLUSTERS}", lambda draw: {"groups": draw.rng.integers(0, CLUSTERS, draw.n)}, True),
    )
}
"""By label, those with an aim first: little time gives these."""


def chosen_asks(words):
    """Return the labels that words mean: a label, or the name of a function for all of its.

    Args:
        words: As the command line has them.

    Raises:
        ValueError: One means nothing; the message lists near names.
    """
    known = {one: (one,) for one in ASKS}
    for ask in ASKS.values():
        known.setdefault(ask.quantity, tuple(label for label, one in ASKS.items() if one.quantity == ask.quantity))
    found = {label for word in words for label in pick(known, word, "quantity")}
    return tuple(label for label in ASKS if label in found)
