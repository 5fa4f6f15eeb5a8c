"""One quantity of one backward pass: called with gradients as they arrive, it gives its value when all have.

Gradients arrive as the caller's loss weighs samples: 1/n of a sample's own where the loss is their mean. `factor` is
what they are multiplied with to be the sample's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from gradkernels.backend import Array
from gradkernels.engines.hooks.parameter_use import ParameterUse

Term = tuple[ParameterUse, Array]
"""A use, and the gradient of its output."""

ROOM_OF_ROWS = "room"
"""Option that is the library's own: bytes that rows may take, of which then some are formed at a time."""


@dataclass(frozen=True)
class Arriving:
    """What is known when the first gradient of a backward pass arrives.

    Attributes:
        theta: Parameters by name.
        shared: Names of those with several uses.
        n: Number of samples.
    """

    theta: dict[str, Array]
    shared: frozenset[str]
    n: int

    @property
    def widest(self) -> torch.dtype:
        """The dtype of results that belong to no single parameter."""
        return max(self.theta.values(), key=torch.Tensor.element_size).dtype


@dataclass(frozen=True)
class Arrived:
    """What is known when all gradients have arrived.

    Attributes:
        factor: What gradients are multiplied with to be the samples' own.
        totals: What autograd gave for each parameter, by name.
        terms: All uses and gradients, where they were kept.
        squares: Squared norms of all rows, `(n,)`, where a measure wants them.
        length: Gives the length of a sample's gradient, as it arrives, by a pass of its own; None where it cannot.
    """

    factor: float
    totals: dict[str, Array]
    terms: Sequence[Term] = ()
    squares: Array | None = None
    length: Callable[[int], float | None] = lambda i: None


class Measure:
    """One quantity of one backward pass, called with each use and gradient, which an accumulator may take."""

    keeps_terms = False
    keeps_totals = False
    wants_squares = False

    @property
    def is_of_uses(self) -> bool:
        """Whether it wants to hear of each use as its gradient arrives."""
        return self.accumulator is not None

    def __init__(self, known: Arriving, options: Mapping[str, Any], accumulator: Any = None) -> None:
        self.known, self.options, self.accumulator = known, options, accumulator

    def __call__(self, use: ParameterUse, g: Array) -> None:
        """Take a gradient that has arrived."""
        if self.accumulator is not None:
            self.accumulator(use, g)

    def result(self, arrived: Arrived) -> Any:
        """Return the quantity of the samples' own gradients."""
        raise NotImplementedError
