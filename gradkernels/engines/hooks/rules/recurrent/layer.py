"""One recurrent layer in one direction, over all steps: forward, and backward to the gradient of every step's gates.

Only what recurs is done step by step: a product with the hidden weight and a few pointwise operations. The input's
projection comes from outside, for all steps at once, and no weight's gradient is formed here at all. What a step's
gates get is a multiple of what its state gets; the factors are known for all steps before the backward pass begins.

Shapes: t steps, n samples, h units; steps first, gates in torch's order along the last axis. Where samples have fewer
steps, they come in the order of their lengths, the longest first: a step is one of the first so many samples, and the
states of the others are carried through it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from gradkernels.backend import Array


@dataclass(frozen=True)
class RecurrentWeights:
    """The parameters that act on the state, without a graph.

    Attributes:
        hidden: `(gates * h, state)`.
        bias: Of a GRU's candidate, `(h,)`, which its reset gate multiplies; all other biases are merely added.
        projection: From an LSTM's units to its state, `(state, h)`; None where they are the same.
    """

    hidden: Array
    bias: Array | None = None
    projection: Array | None = None


@dataclass(frozen=True)
class BackwardFactors:
    """The factors that a backward pass over the steps needs.

    Attributes:
        hidden: Factors `(t, n, gates * h)`, which become the gradients of the products with the hidden weight.
        pull: `pull(t, g, back)` does so for step t, where g is its state's gradient; what the state before gets, but
            not through the hidden weight, it adds to `back`.
        inputs: Gradients of the gates' inputs, from those of all states, when all steps are done.
        cells: What will be the gradient of an LSTM's first cells.
    """

    hidden: Array
    pull: Callable[[int, Array, Array], None]
    inputs: Callable[[Array], Array]
    cells: tuple[Array, ...] = ()


class RecurrentLayer(ABC):
    """All steps of one layer in one direction.

    Args:
        gates: The projected input `(t, n, gates * h)`, with all biases that are merely added; it is overwritten.
        first: The state that it begins with, `(n, state)`, and an LSTM's cells, `(n, h)`.
        weights: What acts on the state.
        reverse: Whether it begins with the last step.
        sizes: How many samples have each step, where not all have.

    Attributes:
        order: The steps.
        before: The state that each step begins with, `(t, n, state)`.
        after: The state that each step ends with.
        units: What an LSTM projects to the states, `(t, n, h)`.
        gate_count: How many gates a unit has.
        merged_count: How many of them, the first, merely add the hidden weight's bias.
    """

    gate_count: ClassVar[int]
    merged_count: ClassVar[int]

    def __init__(
        self, gates: Array, first: Sequence[Array], weights: RecurrentWeights, reverse: bool, sizes: Sequence[int] = ()
    ) -> None:
        self.gates, self.first, self.weights, self.sizes = gates, first, weights, sizes
        self.order = range(len(gates))[:: -1 if reverse else 1]
        self.before, self.after = allocate_states(self.order, first[0])
        self.units = self.after

    @abstractmethod
    def forward(self) -> tuple[Array, ...]:
        """Run all steps; return an LSTM's cells after each."""

    @abstractmethod
    def pulling(self, g_cells: Array | None) -> BackwardFactors:
        """Return what the backward pass needs, made anew for each; `g_cells` is an LSTM's last cells' gradient."""

    def blocks(self, gates: Array) -> tuple[Array, ...]:
        """Return each gate's own part."""
        parts: tuple[Array, ...] = gates.split(gates.shape[-1] // self.gate_count, -1)
        return parts

    def apart(self, gates: Array) -> Array:
        """Reshape to `(t, n, gates, h)`."""
        return gates.view(*gates.shape[:2], self.gate_count, -1)

    def steps(self, tensor: Array) -> Sequence[Array]:
        """Return what of a tensor `(t, n, ...)` belongs to each step: the samples that have it."""
        parts: Sequence[Array] = tensor.unbind()
        return [part[:size] for part, size in zip(parts, self.sizes, strict=True)] if self.sizes else parts

    def carry(self, t: int, source: Array, to: Array) -> None:
        """Copy the states of the samples that have no step t.

        Args:
            t: The step.
            source: States before it.
            to: States after it.
        """
        if self.sizes and self.sizes[t] < source.shape[1]:
            to[t, self.sizes[t] :] = source[t, self.sizes[t] :]

    def clear(self, *tensors: Array) -> None:
        """Write zeros to tensors `(t, n, ...)` where samples have no such step."""
        for t, size in enumerate(self.sizes):
            for tensor in tensors if size < tensors[0].shape[1] else ():
                tensor[t, size:] = 0

    def backward(self, g: Array | None, g_last: Array | None, g_cells: Array | None = None) -> tuple[Array, ...]:
        """Return gradients of the gates' inputs, the hidden weight's products, all states, and what the run began with.

        Args:
            g: Gradient of `after`.
            g_last: Gradient of the last state.
            g_cells: Gradient of an LSTM's last cells.
        """
        before, after = allocate_states(self.order, torch.zeros_like(self.before[0]))
        if g is None:
            after.zero_()
        else:
            after.copy_(g)
        if g_last is not None:
            after[self.order[-1]] += g_last
        pulling = self.pulling(g_cells)
        steps, g_before, g_after = map(self.steps, (pulling.hidden, before, after))
        for t in reversed(self.order):
            pulling.pull(t, g_after[t], g_before[t])
            g_before[t].addmm_(steps[t], self.weights.hidden)
            if self.sizes:
                before[t, self.sizes[t] :] += after[t, self.sizes[t] :]
        return pulling.inputs(after), pulling.hidden, after, before[self.order[0]], *pulling.cells


def allocate_states(order: range, first: Array) -> tuple[Array, Array]:
    """Allocate one memory for what every step begins and ends with; `first` is filled in."""
    memory = first.new_empty((len(order) + 1, *first.shape))
    before, after = (memory[:-1], memory[1:]) if order.step > 0 else (memory[1:], memory[:-1])
    before[order[0]] = first
    return before, after


class RecurrentFunction(torch.autograd.Function):
    """A layer's run in autograd's graph.

    Its inputs after the run are the gates' inputs, zeros that stand for the products with the hidden weight and for
    what is added to the states, so that the gradients of these can be heard of, and what the run begins with.
    """

    @staticmethod
    def forward(ctx: Any, run: RecurrentLayer, *inputs: Array) -> tuple[Array, ...]:
        """Return all states, and copies of what the last step ends with.

        Args:
            ctx: Autograd's context.
            run: The layer's run.
            inputs: Of the graph.
        """
        ctx.set_materialize_grads(False)
        ctx.run = run
        ends = (run.after, *run.forward())
        return run.after.detach(), *(one[run.order[-1]].clone() for one in ends)

    @staticmethod
    def backward(ctx: Any, *g: Array | None) -> tuple[Array | None, ...]:
        """Return the gradients of the inputs."""
        return None, *ctx.run.backward(*g)
