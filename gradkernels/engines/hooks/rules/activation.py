"""Activations with a parameter."""

from __future__ import annotations

from typing import Any

from gradkernels.backend import Array
from gradkernels.engines.hooks.capture.sample_axis import Axis
from gradkernels.engines.hooks.rules.materialized import MaterializedUse
from gradkernels.engines.hooks.rules.rule import LayerRule, NamedArguments, Targets


class PReluSlopes(MaterializedUse):
    """prelu of `(n, [steps,] channels, ...)` by one slope, or one for each channel: sums of g min(x, 0)."""

    def __init__(self, targets: Targets, a: Array, given: NamedArguments) -> None:
        self.targets = targets
        self._a = a
        self._channel = None if given["weight"].numel() == 1 else a.ndim - given["input"].ndim + 1

    def rows(self, target: Any, g: Array, at: slice) -> Array:
        """Sum over everything but the channels.

        Args:
            target: Key of the target.
            g: Gradient of the output, for samples `at`.
            at: Which samples.
        """
        terms = self._a[at].clamp(max=0).mul_(g)
        if self._channel is None:
            return terms.flatten(1).sum(1, keepdim=True) if terms.ndim > 1 else terms[:, None]
        dims = [dim for dim in range(1, terms.ndim) if dim != self._channel]
        return terms.sum(dims) if dims else terms


def _apart(axis: Axis, given: NamedArguments) -> bool:
    """Return whether the samples are not along the channels."""
    return axis.dim == 0 or given["weight"].numel() == 1


PRELU = LayerRule(("input", "weight"), ("weight",), PReluSlopes, _apart)
