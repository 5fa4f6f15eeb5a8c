"""The gradients of all outputs of each sample: one forward pass, and a backward pass through it for each output."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from gradkernels.backend import Array
from gradkernels.engines.hooks.accumulate.accumulators import RowWriter
from gradkernels.engines.hooks.engine import ForwardPass, HooksEngine
from gradkernels.engines.hooks.quantities import Theta, chunk_slices, drawing
from gradkernels.kernel import Compute
from gradkernels.memory import empty_torch
from gradkernels.problems.module.module_problem import ModuleProblem
from gradkernels.problems.module.outputs import outputs_of, require_outputs
from gradkernels.quantities.shared.outputs import output_axes
from gradkernels.quantity import QUANTITIES
from gradkernels.tree import Tree, count, take


def jacobian(problem: ModuleProblem, chunk: int) -> Compute:
    """Return a compute of the gradients of all outputs, each written as it arrives."""

    def every_output(output: Any, y: Array) -> Array:
        found = outputs_of(problem, output)
        require_outputs(found.shape[1:], y.shape[1:])
        return found.reshape(len(found), math.prod(found.shape[1:]))

    engine = HooksEngine(problem, every_output)

    def compute(theta: Theta, x: Tree, y: Array, out: Theta | None = None) -> Theta:
        n, axes = count(y), output_axes(QUANTITIES["jacobian"], y)["outputs"]
        rows = {name: empty_torch((n, *axes, *one.shape), one) for name, one in theta.items()} if out is None else out
        for part in chunk_slices(n, chunk):
            with engine.forward(theta, take(x, part), take(y, part)) as forward:
                for number in range(math.prod(axes)):
                    at = (part, *np.unravel_index(number, axes)) if axes else (part,)
                    _of_output(forward, number, {name: one[at] for name, one in rows.items()})
        return rows

    return drawing(engine, compute)


def _of_output(forward: ForwardPass, number: int, rows: Theta) -> None:
    """Write the gradients of one output of each sample.

    Args:
        forward: Whose losses are all outputs, `(n, c)`.
        number: Of the output.
        rows: `(n, *parameter.shape)` by name.
    """
    consumer = RowWriter(forward.theta, rows, forward.shared)
    last = number + 1 == forward.losses.shape[1]
    replace(forward, losses=forward.losses[:, number]).backward(consumer, keep=not last)
    consumer.finish()
