"""Rules for functions, and how a call of a function becomes a use by its rule."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gradkernels.backend import Array
from gradkernels.engines.hooks.arguments import ArgPath, bind_by_name, name_of
from gradkernels.engines.hooks.capture.boundary import BoundaryCall
from gradkernels.engines.hooks.capture.boundary_rules import RunBoundary
from gradkernels.engines.hooks.capture.sample_axis import Axis
from gradkernels.engines.hooks.capture.tape import Tape
from gradkernels.engines.hooks.parameter_use import ParameterTensor, ParameterUse
from gradkernels.engines.hooks.rules import vmap_call

Targets = dict[str, ParameterTensor]
NamedArguments = dict[str, Any]


@dataclass(frozen=True)
class LayerRule:
    """How a function with one output is differentiated by its parameters.

    Attributes:
        names: Of its arguments, in order; the first is the data.
        parameters: Which of them may be parameters; with parameters elsewhere the call is treated like any other.
        use: `use(targets, data, given)`: the use, from targets by name, the data with the samples first and
            without a graph, and all arguments by name.
        fits: Whether the rule holds where the samples are: `fits(axis of the data, given)`. Another axis may have
            been merged with the samples, or come before them.
        forward: `forward(given)`: the output, and what else it computes on the way that `use` needs, by name, with the
            samples where the data have them; without it the function itself is called.
        beside: Further arguments that may have samples; `use` finds them with the samples first, without a graph.
    """

    names: tuple[str, ...]
    parameters: tuple[str, ...]
    use: Callable[[Targets, Array, NamedArguments], ParameterUse]
    fits: Callable[[Axis, NamedArguments], bool]
    forward: Callable[[NamedArguments], tuple[Array, dict[str, Array]]] | None = None
    beside: tuple[str, ...] = ()

    def holds(self, data: Mapping[str, Axis], targets: Targets, given: NamedArguments) -> bool:
        """Return whether a call is one that the rule is for.

        Args:
            data: Axes of the samples by argument.
            targets: Parameters by argument.
            given: All arguments by name.
        """
        known = {self.names[0], *self.beside}
        if self.names[0] not in data or not data.keys() <= known or not targets.keys() <= set(self.parameters):
            return False
        return self.fits(data[self.names[0]], given)


def run_by_rule(rule: LayerRule) -> RunBoundary:
    """Return how calls with a rule are run."""

    def start(tape: Tape, step: BoundaryCall, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        given = bind_by_name(rule.names, args, kwargs)
        data, targets = _named(rule, step.data), tape.targets(step, args, kwargs)
        named = _named(rule, targets)
        if not rule.holds(data, named, given):
            return vmap_call.run_vmap_call(tape, step, args, kwargs)
        sources, axis = [given[name] for name in data], data[rule.names[0]]
        output, more = rule.forward(given) if rule.forward else (step.function(*args, **kwargs), {})
        given |= {name: of.first(given[name].detach(), tape.n) for name, of in data.items() if name in rule.beside}
        given |= {name: axis.first(tensor.detach(), tape.n) for name, tensor in more.items()}
        use = rule.use(named, axis.first(given[rule.names[0]].detach(), tape.n), given)
        where = tape.output_axis(step, args, kwargs, output)
        tape.listen(use, output, where, sources)
        tape.tracker.mark_boundary(output, where)
        return output

    return start


def _named(rule: LayerRule, by_place: Mapping[ArgPath, Any]) -> dict[str, Any]:
    """Return values by the argument's name instead of its path."""
    return {name_of(place, rule.names): value for place, value in by_place.items()}


def samples_first(axis: Axis, given: NamedArguments) -> bool:
    """Return whether the first axis is the samples', or has been merged into it."""
    return axis.dim == 0


def not_last(axis: Axis, given: NamedArguments) -> bool:
    """Return whether the samples are anywhere but along the features, the last axis."""
    return axis.dim < next(iter(given.values())).ndim - 1


def any_axis(axis: Axis, given: NamedArguments) -> bool:
    """Return True, wherever the samples are."""
    return True


def transposed_parameter(target: ParameterTensor) -> ParameterTensor | None:
    """Return the parameter `(i, o)` that a target `(o, i)` is the transpose of; None if it is none."""
    tensor, whole = target.tensor, target.whole
    if target.direct or whole is None or tensor.ndim != 2 or tensor._base is not whole:
        return None
    if tensor.shape != whole.shape[::-1] or tensor.stride() != whole.stride()[::-1]:
        return None
    return ParameterTensor(whole, target.names, direct=True, whole=whole, block=range(whole.numel()))
