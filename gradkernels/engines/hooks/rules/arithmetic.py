"""Parameters that are added to data or multiply them, entry by entry: a bias, positions, the scale of a norm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from gradkernels.backend import Array
from gradkernels.engines.hooks.capture.boundary import Step
from gradkernels.engines.hooks.capture.sample_axis import Axis
from gradkernels.engines.hooks.capture.tape import Start, Tape
from gradkernels.engines.hooks.parameter_use import Target, Use
from gradkernels.engines.hooks.rules import vmap_call
from gradkernels.engines.hooks.rules.lookup.embedding import Table
from gradkernels.engines.hooks.rules.materialized import Small


class Scaled(Small):
    """A tensor that is broadcast and added to data, or multiplies them.

    Args:
        target: The tensor.
        factor: What its gradient is multiplied by: data, samples first, or a number.
        axis: Where the samples are in the output.
        ndim: Number of axes of the output.
    """

    def __init__(self, target: Target, factor: Array | float, axis: Axis, ndim: int) -> None:
        self.targets = {"other": target}
        self._factor, self._axis, self._ndim = factor, axis, ndim

    def rows(self, target: Any, g: Array, at: slice) -> Array:
        """Sums over what the tensor is broadcast along."""
        factor = self._factor if isinstance(self._factor, float) else self._factor[at]
        g = g if isinstance(factor, float) and factor == 1 else g * factor
        return summed(g, self.targets[target].tensor.shape, self._axis, self._ndim)


class Positions(Use):
    """Rows of a table for words that are the same for all samples, added to data.

    Args:
        target: The table.
        words: Any shape.
        axis: Where the samples are in the output.
        n: Number of samples.
        ndim: Number of axes of the output.
    """

    def __init__(self, target: Target, words: Array, axis: Axis, n: int, ndim: int) -> None:
        self.targets = {"other": target}
        self._table = Table({"weight": target}, words.reshape(1, -1).expand(n, -1), None)
        self._shape, self._axis, self._ndim = (*words.shape, target.tensor.shape[1]), axis, ndim

    def write(self, target: Any, g: Array, out: Array, at: slice, add: bool) -> None:
        """The table's rows."""
        self._table.write("weight", self._terms(g), out, at, add)

    def squares(self, target: Any, g: Array) -> Array:
        """The table's."""
        return self._table.squares("weight", self._terms(g))

    def total(self, target: Any, g: Array) -> Array:
        """The table's."""
        return self._table.total("weight", self._terms(g))

    def total_of_squares(self, target: Any, g: Array) -> Array:
        """The table's."""
        return self._table.total_of_squares("weight", self._terms(g))

    def _terms(self, g: Array) -> Array:
        return summed(g, self._shape, self._axis, self._ndim).flatten(1, -2)


def summed(g: Array, shape: tuple[int, ...], axis: Axis, ndim: int) -> Array:
    """Gradients of an output with so many axes, samples first, summed to those of what was broadcast to it.

    Returns:
        `(n, *shape)`.
    """
    apart = g if axis.inner > 1 else g.unsqueeze(axis.dim + 1)
    if apart.ndim == len(shape) + 1 and apart.shape[1:] == shape:
        return apart
    return apart.sum_to_size(len(g), *[1] * (ndim - len(shape)), *shape).view(len(g), *shape)


def added(sign_of_first: float = 1.0, sign_of_second: float = 1.0) -> Start:
    """Calls of a sum or a difference."""

    def start(tape: Tape, step: Step, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        if kwargs or len(args) != 2 or len(step.data) != 1 or len(step.parameters) != 1:
            return vmap_call.start(tape, step, args, kwargs)
        (place,) = step.parameters
        sign = sign_of_first if place == ("args", 0) else sign_of_second

        def use(target: Target, data: Array, axis: Axis, ndim: int) -> Use:
            table = tape.table(target.tensor) if sign == 1 else None
            return Scaled(target, sign, axis, ndim) if table is None else Positions(*table, axis, tape.n, ndim)

        return _run(tape, step, args, use)

    return start


def multiplied(tape: Tape, step: Step, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Calls of a product by entry."""
    if kwargs or len(args) != 2 or len(step.data) != 1 or len(step.parameters) != 1:
        return vmap_call.start(tape, step, args, kwargs)
    ((place, axis),) = step.data.items()
    source = args[place[1]]

    def use(target: Target, data: Array, where: Axis, ndim: int) -> Use | None:
        return Scaled(target, axis.first(source.detach(), tape.n), where, ndim) if axis == where else None

    return _run(tape, step, args, use)


def _run(tape: Tape, step: Step, args: tuple[Any, ...], use_of: Any) -> Any:
    ((place, _),) = step.data.items()
    ((made, _),) = step.parameters.items()
    target, output = tape.targets(step, args, {})[made], step.function(*args)
    axis = tape.followed(step, args, {}, output)
    before = output.ndim - target.tensor.ndim
    alone = axis.dim < before or target.tensor.shape[axis.dim - before] == 1
    use = use_of(target, args[place[1]], axis, output.ndim) if alone and output.dtype == target.tensor.dtype else None
    if use is None:
        return vmap_call.start(tape, step, args, {})
    tape.keep(use, output, axis, [args[place[1]]])
    tape.marks.boundary(output, axis)
    return output


ARITHMETIC: dict[Any, Start] = {
    **dict.fromkeys((torch.add, torch.Tensor.add, torch.Tensor.__add__, torch.Tensor.__radd__), added()),
    **dict.fromkeys((torch.sub, torch.Tensor.sub, torch.Tensor.__sub__), added(1.0, -1.0)),
    torch.Tensor.__rsub__: added(-1.0, 1.0),
    **dict.fromkeys((torch.mul, torch.Tensor.mul, torch.Tensor.__mul__, torch.Tensor.__rmul__), multiplied),
}
"""How they are run."""
