"""Single steps of the recurrences: what cells make of their two projections, as operations that autograd follows.

In a loop over cells little is computed at each step, so that the number of operations is what counts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from gradkernels.backend import Array

CellStep = Callable[[Array, Array, Sequence[Array]], tuple[Array, ...]]
"""New states from the projections of input and state, `(n, gates * h)`, and the states before, `(n, h)` each."""


def elman(activate: Callable[[Array], Array]) -> CellStep:
    """Return the step h' = activate(x + W h)."""

    def step(x: Array, hidden: Array, states: Sequence[Array]) -> tuple[Array, ...]:
        return (activate(x + hidden),)

    return step


def gru(x: Array, hidden: Array, states: Sequence[Array]) -> tuple[Array, ...]:
    """Return h' = (1 - z) c + z h, with c = tanh(x + r hidden).

    Args:
        x: Projected input, `(n, 3 h)`.
        hidden: Projected state.
        states: The state before.
    """
    size = x.shape[1] // 3
    (of_gates, of_candidate), (more, product) = (torch.split(one, [2 * size, size], 1) for one in (x, hidden))
    reset, update = torch.split(torch.sigmoid(of_gates + more), size, 1)
    return (torch.lerp(torch.addcmul(of_candidate, reset, product).tanh(), states[0], update),)


def lstm_step(x: Array, hidden: Array, states: Sequence[Array]) -> tuple[Array, ...]:
    """Return h' = o tanh c' and c' = f c + i d.

    Args:
        x: Projected input, `(n, 4 h)`.
        hidden: Projected state.
        states: The state and the cells before.
    """
    size = x.shape[1] // 4
    gates, candidate, leave = torch.split(x + hidden, [2 * size, size, size], 1)
    enter, forget = torch.split(torch.sigmoid(gates), size, 1)
    cells = torch.addcmul(forget * states[1], enter, candidate.tanh())
    return torch.sigmoid(leave) * cells.tanh(), cells
