"""One call of a torch function, as the rules that follow samples see it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from gradkernels.backend import Array
from gradkernels.engines.hooks.arguments import ArgPath
from gradkernels.engines.hooks.capture.sample_axis import Axis
from gradkernels.engines.hooks.errors import ONE_AT_A_TIME, Unfit


class TrackedArgument(NamedTuple):
    """An argument with samples.

    Attributes:
        place: Where it is among the arguments.
        tensor: It.
        axis: Where its samples are.
        flows: Whether it comes from a boundary, so that gradients flow through it.
    """

    place: ArgPath
    tensor: Array
    axis: Axis
    flows: bool


class Mixes(Unfit):
    """Why the samples in a call's output cannot be told apart, as a sentence."""


class TrackedCall(NamedTuple):
    """A call that takes samples.

    Attributes:
        function: What is called.
        args: Its arguments by position.
        kwargs: Its arguments by name.
        data: Those with samples; where gradients flow through some, only these.
        n: Number of samples.
        at: Which of several outputs is asked for.
    """

    function: Any
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    data: Sequence[TrackedArgument]
    n: int
    at: int = 0

    @property
    def name(self) -> str:
        """The function's name, for messages."""
        return str(getattr(self.function, "__name__", self.function))

    @property
    def first(self) -> TrackedArgument:
        """The first of the arguments with samples."""
        return self.data[0]

    def argument(self, position: int, *names: str, default: Any = None) -> Any:
        """Return an argument by its position or one of its names.

        Args:
            position: Among the arguments.
            names: That it may have.
            default: What is meant without it.
        """
        if len(self.args) > position:
            return self.args[position]
        return next((self.kwargs[name] for name in names if name in self.kwargs), default)

    def mixes(self, what: str = "takes the samples together") -> Mixes:
        """Return the error that says why samples cannot be told apart."""
        return Mixes(f"{self.name} {what}; {ONE_AT_A_TIME}")

    def agreed(self, axes: Sequence[Axis]) -> Axis:
        """Return the one axis that all of these are; raise where they differ."""
        if any(axis != axes[0] for axis in axes):
            raise self.mixes("has the samples along other axes in one argument than in another")
        return axes[0]


AxisRule = Callable[[TrackedCall, Array], Axis]
"""`rule(call, output)`: where the samples are in an output; raises Mixes where they cannot be told apart."""


def dims_from(dims: Any, ndim: int) -> tuple[int, ...]:
    """Return axes as numbers from 0; none for None."""
    if dims is None:
        return ()
    some = (dims,) if isinstance(dims, int) else tuple(dims)
    return tuple(dim % max(ndim, 1) for dim in some)
