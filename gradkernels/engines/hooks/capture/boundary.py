"""A boundary: a call of the forward pass that brings parameters and samples together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from gradkernels.engines.hooks.arguments import ArgPath, TorchFunction
from gradkernels.engines.hooks.capture.sample_axis import Axis
from gradkernels.engines.hooks.parameter_use import ParameterUse

ParameterNames = tuple[str, ...]


class HeardUse(NamedTuple):
    """A use whose gradient is waited for.

    Attributes:
        use: The use.
        node: Of its call, in autograd's graph.
        output: Number of the node's output.
        shape: Of the call's output.
        axis: Where the samples are in that.
    """

    use: ParameterUse
    node: Any
    output: int
    shape: torch.Size
    axis: Axis


@dataclass(frozen=True)
class BoundaryCall:
    """One call that takes parameters and samples.

    Attributes:
        function: What is called.
        data: Places of the arguments that have a samples' axis.
        parameters: Places of those made from parameters alone, with the names of these.
    """

    function: TorchFunction
    data: Mapping[ArgPath, Axis]
    parameters: Mapping[ArgPath, ParameterNames]

    @property
    def name(self) -> str:
        """The function's name, for messages."""
        return str(getattr(self.function, "__name__", self.function))
