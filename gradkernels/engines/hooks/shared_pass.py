"""A forward and a backward pass that several computations share: what arrived in it is kept, and passed on to each."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from itertools import chain

import torch

from gradkernels.backend import Array
from gradkernels.engines.hooks.capture.boundary_rules import GradientConsumer
from gradkernels.engines.hooks.parameter_use import ParameterUse
from gradkernels.memory.shared_passes import SharedPasses, batch_key
from gradkernels.problems.module.module_problem import ModuleProblem
from gradkernels.tree import Tree, leaves


class KeptGradients:
    """What arrives in a backward pass, for several consumers one after the other.

    Args:
        data: What must stay in its memory as long as this is kept, since the pass is known by where that is.
    """

    def __init__(self, data: object) -> None:
        self._data = data
        self._arrived: list[tuple[ParameterUse, Array]] | None = None

    @property
    def complete(self) -> bool:
        """Whether the backward pass was run."""
        return self._arrived is not None

    def pass_on(
        self, run: Callable[[GradientConsumer], None], consumer: GradientConsumer, weights: Array | None
    ) -> None:
        """Pass on what arrives or arrived, each sample's times its weight.

        Args:
            run: `run(consumer)`, the backward pass, which is run once.
            consumer: Gets it.
            weights: Of the losses, `(n,)`; None for ones.
        """
        if self._arrived is None:
            arrived: list[tuple[ParameterUse, Array]] = []
            run(lambda use, g: arrived.append((use, g)))
            self._arrived = arrived
        with torch.no_grad():
            for use, g in self._arrived:
                consumer(use, g if weights is None else g * weights.to(g.dtype).view(-1, *[1] * (g.ndim - 1)))


def pass_key(
    passes: SharedPasses, problem: ModuleProblem, theta: dict[str, Array], data: tuple[Tree, Tree]
) -> Hashable:
    """Return all that a pass depends on; None where it is not to be shared, or that cannot be told.

    Args:
        passes: Of the scope.
        problem: Of a module.
        theta: Parameters by name.
        data: x and y, samples first.
    """
    batch, model = batch_key(leaves(data)), problem.model
    if not passes.expects(batch):
        return None
    state = batch_key([*theta.values(), *chain(model.parameters(), model.buffers())])
    return None if state is None else (problem, problem.mode_key(), tuple(theta), state, batch)
