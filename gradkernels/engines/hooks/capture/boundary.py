"""A boundary: a call of the forward pass that brings parameters and samples together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gradkernels.engines.hooks.arguments import ArgPath, Function
from gradkernels.engines.hooks.capture.sample_axis import Axis

ParameterNames = tuple[str, ...]


@dataclass(frozen=True)
class BoundaryCall:
    """One call that takes parameters and samples.

    Attributes:
        function: What is called.
        data: Places of the arguments that have a samples' axis.
        parameters: Places of those made from parameters alone, with the names of these.
    """

    function: Function
    data: Mapping[ArgPath, Axis]
    parameters: Mapping[ArgPath, ParameterNames]

    @property
    def name(self) -> str:
        """The function's name, for messages."""
        return str(getattr(self.function, "__name__", self.function))
