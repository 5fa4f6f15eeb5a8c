"""The forward pass as it is run: every call checked against its step, every boundary kept for the backward pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.overrides import TorchFunctionMode

from gradkernels.backend import Array
from gradkernels.hooks.axis import Axis
from gradkernels.hooks.calls import Place
from gradkernels.hooks.opened import OPENED
from gradkernels.hooks.probe import Step, Unfit
from gradkernels.hooks.use import Target, Use
from gradkernels.problems.structure import Parameters

Arrived = Callable[[Use, Array], None]
"""Called with each use and its output's gradient, samples first, during the backward pass."""

Start = Callable[["Tape", Step, tuple[Any, ...], Mapping[str, Any]], Any]
"""Runs a boundary forward and keeps its uses; gives what the model's call returns."""

Entry = tuple[Any, Step | None, Start | None]
"""The function that is to be called next, and for a boundary its step and how it is run."""


DEPENDS = (
    "the model's calls of torch functions, their sizes or the parameters that they take depend on its data; "
    "pass kernel='torch.loop', which takes one sample at a time"
)


class Tape(TorchFunctionMode):
    """Runs one forward pass.

    Args:
        entries: What the pass calls, in order.
        n: Number of samples.
        theta: Parameters that the model holds.
        arrived: What becomes of the gradients.

    Attributes:
        sources: Where a backward pass may end.
        kept: The node of each boundary in autograd's graph, with the nodes that its data come from.
    """

    def __init__(self, entries: Sequence[Entry], n: int, theta: Parameters, arrived: Arrived) -> None:
        super().__init__()
        self.n = n
        self.sources: list[GradientEdge] = []
        self.kept: dict[Any, list[Any]] = {}
        self._entries = iter(entries)
        self._theta = theta
        self._arrived = arrived

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """The call as it is, or as a boundary runs it."""
        if func in OPENED:
            with self:
                return OPENED[func](*args, **(kwargs or {}))
        expected, step, start = next(self._entries, (None, None, None))
        if func != expected:
            raise Unfit(DEPENDS)
        if step is None or start is None:
            return func(*args, **(kwargs or {}))
        return start(self, step, args, kwargs or {})

    def target(self, names: tuple[str, ...], tensor: Array) -> Target:
        """What a boundary differentiates by."""
        whole = self._theta[names[0]]
        if tensor is not whole and tensor.is_leaf:
            raise Unfit(DEPENDS)
        return Target(tensor, names, tensor is whole, _block(tensor, whole))

    def targets(self, step: Step, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[Place, Target]:
        """The targets of a call by place."""
        return {place: self.target(names, find(args, kwargs, place)) for place, names in step.parameters.items()}

    def keep(self, use: Use, output: Array, axis: Axis, data: Sequence[Array]) -> None:
        """Have `use` told when the gradient of `output` arrives; `data` is what comes from earlier boundaries."""
        if output.shape[axis.dim] != self.n * axis.inner:
            # A gradient of one row would else be broadcast to all samples.
            raise Unfit(DEPENDS)
        if not output.requires_grad:
            raise Unfit(f"a {type(use).__name__} has an output that cannot be differentiated")
        arrived, n, shape, waiting = self._arrived, self.n, output.shape, [use]
        heard = _written_once(output, [*data, *(target.tensor for target in use.targets.values())])

        def hear(g: Array) -> None:
            arrived(waiting[0], axis.first(g.reshape(shape), n))

        heard.register_hook(hear)
        edge = get_gradient_edge(heard)
        self.kept[edge.node] = [one.grad_fn for one in data]
        if not any(one.requires_grad for one in data):
            self.sources.append(edge)


def _written_once(output: Array, inputs: Sequence[Array]) -> Array:
    """An output, or what it is another shape of.

    What is then done to a view in place is done to what it is a view of, and autograd takes the view out of its graph.
    """
    base = output._base
    if base is None or base.grad_fn is None or base.numel() != output.numel():
        return output
    if not (base.is_contiguous() and output.is_contiguous()) or any(base is one or base is one._base for one in inputs):
        return output
    return base


def _block(tensor: Array, whole: Array) -> range | None:
    """The entries of a parameter that a tensor is a view of."""
    if tensor is not whole and (tensor._base is not whole or not tensor.is_contiguous() or not whole.is_contiguous()):
        return None
    start = tensor.storage_offset() - whole.storage_offset()
    return range(start, start + tensor.numel())


def find(args: tuple[Any, ...], kwargs: Mapping[str, Any], place: Place) -> Any:
    """The argument at a place."""
    found: Any = args if place[0] == "args" else kwargs
    for key in place[1:]:
        found = found[key]
    return found
