"""Parameters that are added to data or multiply them, entry by entry: a bias, positions, the scale of a norm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from gradkernels.backend import Array
from gradkernels.engines.hooks.arguments import writes_in_place
from gradkernels.engines.hooks.capture.boundary import BoundaryCall
from gradkernels.engines.hooks.capture.boundary_rules import RunBoundary
from gradkernels.engines.hooks.capture.sample_axis import Axis
from gradkernels.engines.hooks.capture.tape import Tape
from gradkernels.engines.hooks.parameter_use import ParameterTensor, ParameterUse
from gradkernels.engines.hooks.rules import vmap_call
from gradkernels.engines.hooks.rules.lookup.embedding import EmbeddingTable
from gradkernels.engines.hooks.rules.materialized import MaterializedUse


class ScaledUse(MaterializedUse):
    """A tensor that is broadcast and added to data, or multiplies them.

    Args:
        target: The tensor.
        factor: What its gradient is multiplied by: data, samples first, or a number.
        axis: Where the samples are in the output.
        ndim: Number of axes of the output.
    """

    def __init__(self, target: ParameterTensor, factor: Array | float, axis: Axis, ndim: int) -> None:
        self.targets = {"other": target}
        self._factor, self._axis, self._ndim = factor, axis, ndim

    def rows(self, target: Any, g: Array, at: slice) -> Array:
        """Sum over what the tensor is broadcast along.

        Args:
            target: Key of the target.
            g: Gradient of the output, for samples `at`.
            at: Which samples.
        """
        factor = self._factor if isinstance(self._factor, float) else self._factor[at]
        g = g if isinstance(factor, float) and factor == 1 else g * factor
        return sum_broadcast(g, self.targets[target].tensor.shape, self._axis, self._ndim)


class SharedLookup(ParameterUse):
    """Rows of a table for words that are the same for all samples, added to data.

    Args:
        target: The table.
        words: Any shape.
        axis: Where the samples are in the output.
        n: Number of samples.
        ndim: Number of axes of the output.
    """

    def __init__(self, target: ParameterTensor, words: Array, axis: Axis, n: int, ndim: int) -> None:
        self.targets = {"other": target}
        self._table = EmbeddingTable({"weight": target}, words.reshape(1, -1).expand(n, -1), None)
        self._shape, self._axis, self._ndim = (*words.shape, target.tensor.shape[1]), axis, ndim

    def write(self, target: Any, g: Array, out: Array, at: slice, add: bool) -> None:
        """Write the table's rows.

        Args:
            target: Key of the target.
            g: Gradient of the output, `(n, ...)`.
            out: Memory for the rows of samples `at`.
            at: Which samples.
            add: Whether to add to what is there.
        """
        self._table.write("weight", self.terms(g), out, at, add)

    def squared_norms(self, target: Any, g: Array) -> Array:
        """Return the squared norms of the table's rows."""
        return self._table.squared_norms("weight", self.terms(g))

    def total(self, target: Any, g: Array) -> Array:
        """Return the sum of the table's rows."""
        return self._table.total("weight", self.terms(g))

    def total_of_squares(self, target: Any, g: Array) -> Array:
        """Return the sum of the table's squared rows."""
        return self._table.total_of_squares("weight", self.terms(g))

    @property
    def table(self) -> EmbeddingTable:
        """The use as one of a table whose words are given sample by sample."""
        return self._table

    def terms(self, g: Array) -> Array:
        """Return the gradient of each word, `(n, t, width)`."""
        return sum_broadcast(g, self._shape, self._axis, self._ndim).flatten(1, -2)


def sum_broadcast(g: Array, shape: tuple[int, ...], axis: Axis, ndim: int) -> Array:
    """Sum gradients of an output, samples first, to those of what was broadcast to it.

    Args:
        g: Gradient of the output.
        shape: Of what was broadcast.
        axis: Where the samples are in the output.
        ndim: Number of axes of the output.

    Returns:
        `(n, *shape)`.
    """
    apart = g if axis.merged else g.unsqueeze(axis.dim + 1)
    if apart.ndim == len(shape) + 1 and apart.shape[1:] == shape:
        return apart
    return apart.sum_to_size(len(g), *[1] * (ndim - len(shape)), *shape).view(len(g), *shape)


def addition(sign_of_first: float = 1.0, sign_of_second: float = 1.0) -> RunBoundary:
    """Return how calls of a sum or a difference are run."""

    def start(tape: Tape, step: BoundaryCall, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        if kwargs or len(args) != 2 or len(step.data) != 1 or len(step.parameters) != 1:
            return vmap_call.run_vmap_call(tape, step, args, kwargs)
        (place,) = step.parameters
        sign = sign_of_first if place == ("args", 0) else sign_of_second

        def use(target: ParameterTensor, data: Array, axis: Axis, ndim: int) -> ParameterUse:
            table = tape.table_rows(target.tensor) if sign == 1 else None
            return ScaledUse(target, sign, axis, ndim) if table is None else SharedLookup(*table, axis, tape.n, ndim)

        return _run(tape, step, args, use)

    return start


def multiplication(tape: Tape, step: BoundaryCall, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Run calls of a product by entry.

    Args:
        tape: The pass.
        step: The call.
        args: Its arguments by position.
        kwargs: Its arguments by name.
    """
    if kwargs or len(args) != 2 or len(step.data) != 1 or len(step.parameters) != 1:
        return vmap_call.run_vmap_call(tape, step, args, kwargs)
    ((_, axis),) = step.data.items()

    def use(target: ParameterTensor, data: Array, where: Axis, ndim: int) -> ParameterUse | None:
        return ScaledUse(target, axis.first(data, tape.n), where, ndim) if axis == where else None

    return _run(tape, step, args, use)


def _run(tape: Tape, step: BoundaryCall, args: tuple[Any, ...], use_of: Any) -> Any:
    """Run the call; in place where the pass has computed the data and they are no view: inputs are the caller's."""
    ((place, _),) = step.data.items()
    ((made, _),) = step.parameters.items()
    source, in_place = args[place[1]], writes_in_place(step.function)
    if in_place and (place != ("args", 0) or source._base is not None or not source.requires_grad):
        return vmap_call.run_vmap_call(tape, step, args, {})
    data = source.detach()
    data = data.clone() if in_place and step.function in PRODUCTS_IN_PLACE else data
    target, output = tape.targets(step, args, {})[made], step.function(*args)
    axis = tape.output_axis(step, args, {}, output)
    before = output.ndim - target.tensor.ndim
    alone = axis.dim < before or target.tensor.shape[axis.dim - before] == 1
    use = use_of(target, data, axis, output.ndim) if alone and output.dtype == target.tensor.dtype else None
    if use is None:
        return vmap_call.run_vmap_call(tape, step, args, {})
    tape.listen(use, output, axis, [source])
    tape.tracker.mark_boundary(output, axis)
    return output


PRODUCTS_IN_PLACE = (torch.Tensor.mul_, torch.Tensor.__imul__)
ARITHMETIC: dict[Any, RunBoundary] = {
    **dict.fromkeys((torch.add, torch.Tensor.add, torch.Tensor.__add__, torch.Tensor.__radd__), addition()),
    **dict.fromkeys((torch.Tensor.add_, torch.Tensor.__iadd__), addition()),
    **dict.fromkeys((torch.sub, torch.Tensor.sub, torch.Tensor.__sub__), addition(1.0, -1.0)),
    **dict.fromkeys((torch.Tensor.sub_, torch.Tensor.__isub__), addition(1.0, -1.0)),
    torch.Tensor.__rsub__: addition(-1.0, 1.0),
    **dict.fromkeys((torch.mul, torch.Tensor.mul, torch.Tensor.__mul__, torch.Tensor.__rmul__), multiplication),
    **dict.fromkeys(PRODUCTS_IN_PLACE, multiplication),
}
"""How they are run."""
