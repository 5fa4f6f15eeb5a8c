"""What a rule for a function says, and how a call of the function becomes a use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gradkernels.backend import Array
from gradkernels.hooks import anything
from gradkernels.hooks.axis import Axis
from gradkernels.hooks.calls import Place, bound
from gradkernels.hooks.probe import Step
from gradkernels.hooks.tape import Start, Tape
from gradkernels.hooks.use import Target, Use

Targets = dict[str, Target]
Given = dict[str, Any]


@dataclass(frozen=True)
class Rule:
    """How a function with one output is differentiated by its parameters.

    Attributes:
        names: Of its arguments, in order; the first is the data.
        parameters: Which of them may be parameters; with parameters elsewhere the call is treated like any other.
        use: `use(targets, data, given)`: the use, from targets by name, the data with the samples first and
            without a graph, and all arguments by name.
        leading: Axes that the data have at least behind the samples: whether another axis may be merged with the
            samples, or come before them, as for a linear map, is decided by `fits`.
        fits: Whether the rule holds where the samples are: `fits(axis of the data, given)`.
    """

    names: tuple[str, ...]
    parameters: tuple[str, ...]
    use: Callable[[Targets, Array, Given], Use]
    fits: Callable[[Axis, Given], bool]


def ruled(rule: Rule) -> Start:
    """Calls with a rule, run forward."""

    def start(tape: Tape, step: Step, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        given = bound(rule.names, args, kwargs)
        data, targets = _named(rule, step.data), tape.targets(step, args, kwargs)
        axis = data.get(rule.names[0])
        named = _named(rule, targets)
        if axis is None or len(data) > 1 or not set(named) <= set(rule.parameters) or not rule.fits(axis, given):
            return anything.start(tape, step, args, kwargs)
        source = given[rule.names[0]]
        output = step.function(*args, **kwargs)
        use = rule.use(named, axis.first(source.detach(), tape.n), given)
        tape.keep(use, output, step.output or axis, [source])
        return output

    return start


def _named(rule: Rule, by_place: Mapping[Place, Any]) -> dict[str, Any]:
    """By the argument's name instead of its place."""
    return {rule.names[place[1]] if place[0] == "args" else place[1]: value for place, value in by_place.items()}


def samples_first(axis: Axis, given: Given) -> bool:
    """Whether the first axis is the samples', or has been merged into it."""
    return axis.dim == 0


def not_last(axis: Axis, given: Given) -> bool:
    """Whether the samples are anywhere but along the features, the last axis."""
    return axis.dim < next(iter(given.values())).ndim - 1
