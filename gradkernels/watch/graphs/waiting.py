"""Gradients of the uses of one pass that are kept until all have come: no more than that is done as each arrives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from gradkernels.backend import Array
from gradkernels.engines.hooks.following import GradientListener
from gradkernels.engines.hooks.parameter_use import ParameterUse
from gradkernels.engines.hooks.rules.kept_data import KeptData, Remake
from gradkernels.watch.graphs.written import Unwritten


class WaitingGradients:
    """What has arrived in a backward pass of the uses that wait for each other.

    Args:
        remakes: Of these uses.
        kept: What the nodes of this pass have kept for them.

    Attributes:
        is_open: Whether gradients are kept here, not handed on as they arrive.
    """

    def __init__(self, remakes: list[Remake], kept: list[KeptData]) -> None:
        self._remakes, self.kept, self.is_open = remakes, kept, False
        self.gradients: list[Array | None] = [None] * len(kept)
        self._unwritten = Unwritten()
        for some in kept:
            self._unwritten.add(some)

    def open(self, device: torch.device) -> bool:
        """Keep from now on what arrives, unless the pass is one that is differentiated itself, or casts; say whether.

        Those hand on what arrives in a way of their own.
        """
        self.is_open = not torch.is_autocast_enabled(device.type) and not torch.is_grad_enabled()
        return self.is_open

    def require_unwritten(self) -> None:
        """Raise a CannotWatch where what is kept of the forward pass is not as it was."""
        self._unwritten.require()

    def use(self, at: int) -> ParameterUse:
        """Return a use."""
        return self._remakes[at].use(self.kept[at])

    def close(self) -> None:
        """Keep nothing any more, and let go of what was kept."""
        self.is_open, self.gradients = False, [None] * len(self.kept)

    def hook(self, at: int, number: int, shape: torch.Size, listener: GradientListener) -> Callable[[Any], None]:
        """Return what a node tells of the gradients of its outputs.

        Args:
            at: Number of the use, among those that wait.
            number: Of the output that its gradient is of.
            shape: Of the gradient, samples first.
            listener: Told of it where gradients are not kept.
        """

        def hear(gradients: Any) -> None:
            g = gradients[number]
            if g is None:
                return
            g = g if g.shape == shape else g.reshape(shape)
            if self.is_open:
                self.gradients[at] = g
            else:
                listener(self.use(at), g)

        return hear
