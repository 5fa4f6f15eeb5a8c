"""What a model's forward pass does: its calls of torch functions for two and for three samples, side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from gradkernels.backend import Array
from gradkernels.hooks.axis import FEW, MORE, Axis, axis_of
from gradkernels.hooks.calls import Function, Place, leaves
from gradkernels.hooks.opened import OPENED
from gradkernels.hooks.order import order_of
from gradkernels.problems.module import ModuleProblem
from gradkernels.problems.structure import Parameters
from gradkernels.tree import Tree, count, take
from gradkernels.tree import leaves as tensors

Names = tuple[str, ...]


class Unfit(ValueError):
    """Why a model cannot be differentiated by hooks, as a sentence."""


@dataclass(frozen=True)
class Step:
    """One call of the forward pass.

    Attributes:
        function: What is called.
        data: Places of the arguments that have a samples' axis.
        parameters: Places of those made from parameters alone, with the names of these.
        sized: Places of whole numbers that grow with the samples, with what they are for one sample.
        output: The samples' axis of its output; None for several outputs, or for none.
        boundary: Whether its output has samples and it takes parameters.
        draws: Whether it draws random numbers for its samples, where all of them are to see the same.
    """

    function: Function
    data: Mapping[Place, Axis] = field(default_factory=dict)
    parameters: Mapping[Place, Names] = field(default_factory=dict)
    sized: Mapping[Place, int] = field(default_factory=dict)
    output: Axis | None = None
    boundary: bool = False
    draws: bool = False


@dataclass(frozen=True)
class _Call:
    function: Function
    arguments: dict[str, Any]
    outputs: list[Any]
    drew: bool


class _Recorder(TorchFunctionMode):
    """Keeps every call, and so every tensor, so that no two of them share an id.

    Args:
        same: Whether to look which calls draw random numbers.
    """

    def __init__(self, same: bool) -> None:
        super().__init__()
        self._same = same
        self.calls: list[_Call] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in OPENED:
            with self:
                return OPENED[func](*args, **(kwargs or {}))
        arguments = {"args": args, "kwargs": kwargs or {}}
        before = _generators() if self._same else []
        result = func(*args, **(kwargs or {}))
        drew = self._same and not all(map(torch.equal, before, _generators()))
        self.calls.append(_Call(func, arguments, [value for _, value in leaves(result)], drew))
        return result


def _generators() -> list[Array]:
    """States of torch's random numbers."""
    of_gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]
    return [torch.random.get_rng_state(), *of_gpus]


def probe(problem: ModuleProblem, theta: Parameters, x: Tree) -> list[Step]:
    """The steps of the forward pass, with the parameters that the model holds.

    Args:
        problem: Whose model.
        theta: The parameters that it holds.
        x: At least one sample, to be repeated.

    Raises:
        Unfit: The model does something else for three samples than for two, or the samples' axis cannot be told.
    """
    inputs = [take(x, torch.arange(n, device=tensors(x)[0].device) % count(x)) for n in (FEW, MORE)]
    try:
        few, more = (_calls(problem, one) for one in inputs)
    except Exception as error:  # whatever a model raises for two or three samples, it may not for one
        raise Unfit(f"the model cannot take {FEW} and {MORE} samples: {error}") from error
    if [call.function for call in few] != [call.function for call in more]:
        raise Unfit("the model calls other functions for three samples than for two")
    reader = _Reader(theta)
    try:
        reader.learn(tensors(inputs[0]), tensors(inputs[1]))
        return [reader.step(*pair) for pair in zip(few, more, strict=True)]
    except ValueError as error:
        raise Unfit(str(error)) from error


def _calls(problem: ModuleProblem, x: Tree) -> list[_Call]:
    with problem.drawing(), _Recorder(problem.randomness == "same") as recorder:
        problem.output(x)
    return recorder.calls


class _Reader:
    """Follows tensors from call to call: which have samples, and which are made from parameters alone."""

    def __init__(self, theta: Parameters) -> None:
        self.axes: dict[int, Axis | None] = {}
        self.names: dict[int, Names] = {id(tensor): (name,) for name, tensor in theta.items()}

    def learn(
        self, few: Iterable[Any], more: Iterable[Any], order: Callable[[int, Axis], bool | None] | None = None
    ) -> list[Axis | None]:
        """The samples' axes of tensors of the first run, from their counterparts of the second."""
        axes = []
        for at, (one, other) in enumerate(zip(few, more, strict=True)):
            known = (lambda *axis, at=at: order(at, Axis(*axis))) if order else None
            axis = axis_of(one, other, known) if isinstance(one, torch.Tensor) else None
            self.axes[id(one)] = axis
            axes.append(axis)
        return axes

    def step(self, few: _Call, more: _Call) -> Step:
        """What this call does."""
        pairs = list(zip(leaves(few.arguments), leaves(more.arguments), strict=True))
        given = {place: value for (place, value), _ in pairs if isinstance(value, torch.Tensor)}
        data = {place: axis for place, value in given.items() if (axis := self.axes.get(id(value)))}
        names = {place: self.names.get(id(value)) for place, value in given.items() if value.requires_grad}
        parameters = {place: of for place, of in names.items() if of}
        outputs = self.learn(few.outputs, more.outputs, lambda at, axis: _order(few, data, at, axis))
        draws = few.drew and any(outputs)
        if not parameters:
            return Step(few.function, data, draws=draws)
        if not any(outputs):
            return self._derived(few, data, parameters)
        sized = {place: _of_one(one, other) for (place, one), (_, other) in pairs if _grows(one, other)}
        axis = outputs[0] if len(outputs) == 1 else None
        if axis and not axis.sure:
            raise Unfit(f"{_name(few.function)} gives an axis of samples and others in an order that cannot be told")
        return Step(few.function, data, parameters, sized, axis, boundary=True, draws=draws)

    def _derived(self, call: _Call, data: Mapping[Place, Axis], parameters: Mapping[Place, Names]) -> Step:
        """Parameters alone give something that has no samples: what it is made from is remembered."""
        results = call.arguments["args"][:1] if call.function is torch.Tensor.__setitem__ else call.outputs
        made = [value for value in results if isinstance(value, torch.Tensor) and value.is_floating_point()]
        if made and data:
            raise Unfit(f"{_name(call.function)} mixes the samples with a parameter")
        for value in made:
            self.names[id(value)] = tuple(dict.fromkeys(name for names in parameters.values() for name in names))
        return Step(call.function, data, parameters if made else {})


def _order(call: _Call, data: Mapping[Place, Axis], at: int, axis: Axis) -> bool | None:
    """Whether samples vary slowest in a merged axis of an output: as in an input, or as the function arranges them."""
    for one in data.values():
        if one.inner == axis.inner and one.sure:
            return one.slowest
    known = data and all(one.sure for one in data.values())
    return order_of(call.function, call.arguments, data, at, axis) if known else None


def _grows(one: Any, other: Any) -> bool:
    return type(one) is int and one != other


def _of_one(one: int, other: Any) -> int:
    if one * MORE != other * FEW:
        raise Unfit(f"a size is {one} for {FEW} samples and {other} for {MORE}")
    return one // FEW


def _name(function: Function) -> str:
    return str(getattr(function, "__name__", function))
