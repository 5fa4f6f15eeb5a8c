"""The gradients of all outputs of each sample: one forward pass, and a backward pass through it for several outputs.

Such a pass is run under vmap: what arrives at a boundary has an axis of outputs, and is taken apart there, so that each
output's rows go to their own place by the rule of the boundary. Where the model's backward pass is nothing for vmap,
there is a pass for each output.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from gradkernels.backend import Array
from gradkernels.engines.hooks.accumulate.accumulators import RowWriter
from gradkernels.engines.hooks.engine import ForwardPass, HooksEngine
from gradkernels.engines.hooks.errors import Unfit
from gradkernels.engines.hooks.parameter_use import ParameterUse
from gradkernels.engines.hooks.quantities import Theta, chunk_slices, drawing
from gradkernels.engines.vmap import fitting_chunk
from gradkernels.kernel import Compute
from gradkernels.memory import empty_torch
from gradkernels.problems.module.module_problem import ModuleProblem
from gradkernels.problems.module.outputs import outputs_of, require_outputs
from gradkernels.quantities.shared.outputs import OUTPUTS_AT_ONCE, output_axes
from gradkernels.quantity import QUANTITIES
from gradkernels.tree import Tree, count, take


def jacobian(problem: ModuleProblem, chunk: int | None) -> Compute:
    """Return a compute of the gradients of all outputs, each written as it arrives.

    Args:
        problem: Of outputs.
        chunk: Samples at a time, and one output of each; None for all samples, and as many outputs as suit.
    """

    def every_output(output: Any, y: Array) -> Array:
        found = outputs_of(problem, output)
        require_outputs(found.shape[1:], y.shape[1:])
        return found.reshape(len(found), math.prod(found.shape[1:]))

    engine, passes = HooksEngine(problem, every_output), OutputPasses()

    def compute(theta: Theta, x: Tree, y: Array, out: Theta | None = None) -> Theta:
        n, axes = count(y), output_axes(QUANTITIES["jacobian"], y)["outputs"]
        rows = {name: empty_torch((n, *axes, *one.shape), one) for name, one in theta.items()} if out is None else out
        fitting = min(OUTPUTS_AT_ONCE, fitting_chunk(theta, x, n)) // max(n, 1) if chunk is None else 1
        for part in chunk_slices(n, chunk or max(n, 1)):
            with engine.forward(theta, take(x, part), take(y, part)) as forward:
                places = [(part, *np.unravel_index(i, axes)) if axes else (part,) for i in range(math.prod(axes))]
                passes.write(forward, [{name: one[at] for name, one in rows.items()} for at in places], fitting)
        return rows

    return drawing(engine, compute)


@dataclass
class OutputPasses:
    """Backward passes from outputs.

    Attributes:
        batched: Whether vmap can run them, as far as is known.
    """

    batched: bool = True

    def write(self, forward: ForwardPass, rows: Sequence[Theta], most: int) -> None:
        """Write the gradients of all outputs.

        Args:
            forward: Whose losses are the outputs, `(n, c)`.
            rows: Of each output, `(n, *parameter.shape)` by name.
            most: Outputs that may share a pass.
        """
        if self.batched and min(most, len(rows)) > 1 and forward.sources is not None and not forward.repeated:
            try:
                for start in range(0, len(rows), most):
                    _of_several(forward, rows[start : start + most], start)
                return
            except Unfit:
                raise
            except Exception:  # of a function without a rule for vmap, say; a pass for each output says what else it is
                self.batched = False
        for number, one in enumerate(rows):
            consumer = RowWriter(forward.theta, one, forward.shared)
            losses = forward.losses[:, number]
            replace(forward, losses=losses).backward(consumer, keep=number + 1 < len(rows))
            consumer.finish()


def _of_several(forward: ForwardPass, rows: Sequence[Theta], first: int) -> None:
    """Write the gradients of some outputs from one backward pass.

    Args:
        forward: Whose losses are the outputs.
        rows: Of each of some.
        first: Number of the first of them.
    """
    writers, losses = [RowWriter(forward.theta, one, forward.shared) for one in rows], forward.losses

    def take_apart(use: ParameterUse, g: Array) -> None:
        for writer, one in zip(writers, _outputs_first(g, len(writers)), strict=True):
            writer(use, one)

    ends = torch.eye(losses.shape[1], dtype=losses.dtype, device=losses.device)[first : first + len(rows)]
    forward.backward_of_several(take_apart, ends[:, None, :].expand(len(rows), *losses.shape))
    for writer in writers:
        writer.finish()


def _outputs_first(g: Array, size: int) -> Array:
    """Return a gradient that arrives under vmap as a tensor with the axis of outputs first.

    Args:
        g: As vmap has it.
        size: Number of outputs, for all of which it is the same where it has no such axis.
    """
    vmap: Any = torch._C._functorch
    if not vmap.is_batchedtensor(g):
        return g.expand(size, *g.shape)
    found: Array = vmap.get_unwrapped(g).movedim(vmap.maybe_get_bdim(g), 0)
    return found
