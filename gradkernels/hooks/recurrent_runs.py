"""One recurrent layer in one direction, over all steps: forward, and backward to the gradient of every step's gates.

Only what recurs is done step by step: one product with the hidden weight and a few pointwise operations. The input's
projection comes from outside, for all steps at once; so do the factors of the backward pass, and no weight's gradient
is formed here at all. A step's gradient is a multiple of its state's, so that the factors are all that it needs.

Shapes: t steps, n samples, h units; steps first, gates in torch's order along the last axis.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from gradkernels.backend import Array


@dataclass(frozen=True)
class Weights:
    """What acts on the state, without a graph.

    Attributes:
        hidden: `(gates * h, state)`.
        bias: Added to its product, `(gates * h,)`; None without biases, or where it is in the projected input.
        projection: From units to the state, `(state, h)`; None where they are the same.
    """

    hidden: Array
    bias: Array | None = None
    projection: Array | None = None


class Run(ABC):
    """All steps of one layer in one direction.

    Args:
        gates: The projected input `(t, n, gates * h)`, with all biases that are merely added; is overwritten.
        first: The state to begin with, `(n, state)`, for an LSTM the cells' `(n, h)` too.
        weights: What acts on the state.
        reverse: Whether to begin with the last step.

    Attributes:
        before: States that each step begins with, `(t, n, state)`.
        after: States that it ends with.
    """

    def __init__(self, gates: Array, first: Sequence[Array], weights: Weights, reverse: bool) -> None:
        self.gates, self.weights = gates, weights
        self.order = range(len(gates))[:: -1 if reverse else 1]
        self.before, self.after = _states(first[0], self.order)

    @abstractmethod
    def forward(self) -> None:
        """Run all steps."""

    def last(self) -> tuple[Array, ...]:
        """Copies of what the last step ends with."""
        return (self.after[self.order[-1]].clone(),)

    @abstractmethod
    def backward(self, g: Array, *g_last: Array | None) -> Gradients:
        """From the gradients of `after` and of what the last step ends with."""


@dataclass(frozen=True)
class Gradients:
    """What a run gives back.

    Attributes:
        gates: Of the projected input, `(t, n, gates * h)`.
        hidden: Of the product with the hidden weight, alike.
        states: Of the states before a projection, `(t, n, state)`; None without one.
        first: Of what the first step begins with.
    """

    gates: Array
    hidden: Array
    states: Array | None
    first: tuple[Array, ...]


class Plain(Run):
    """h' = tanh(x + W h), or relu."""

    activation: str

    def forward(self) -> None:
        """One product and the activation a step."""
        weight, activation = self.weights.hidden.t(), getattr(torch, self.activation)
        gates, before, after = self.gates.unbind(), self.before.unbind(), self.after.unbind()
        for t in self.order:
            after[t].copy_(activation(gates[t].addmm_(before[t], weight)))

    def backward(self, g: Array, *g_last: Array | None) -> Gradients:
        """The activation's derivative from its value."""
        d = self._derivative()
        steps, g_steps, weight = d.unbind(), g.unbind(), self.weights.hidden
        back = g_last[0]
        for t in reversed(self.order):
            steps[t].mul_(g_steps[t] if back is None else g_steps[t] + back)
            back = steps[t] @ weight
        return Gradients(d, d, None, (_made(back),))
