"""The use of a parameter by a single sample: its row is the gradient itself."""

from __future__ import annotations

from typing import Any

from gradkernels.backend import Array
from gradkernels.engines.hooks.parameter_use import ParameterTensor
from gradkernels.engines.hooks.rules.materialized import MaterializedUse


class SingleSample(MaterializedUse):
    """A parameter, whose gradient `(1, *shape)` is what arrives.

    Args:
        name: Of the parameter.
        tensor: It.
    """

    def __init__(self, name: str, tensor: Array) -> None:
        self.targets = {name: ParameterTensor(tensor, (name,), direct=True, whole=tensor, block=range(tensor.numel()))}

    def rows(self, target: Any, g: Array, at: slice) -> Array:
        """Return what has arrived.

        Args:
            target: Key of the target.
            g: Gradient of the output, for samples `at`.
            at: Which samples.
        """
        return g
