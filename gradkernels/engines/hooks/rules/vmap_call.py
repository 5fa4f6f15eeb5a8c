"""Calls without a rule: vmap of the call's own vjp, over this call alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from gradkernels.backend import Array
from gradkernels.engines.hooks.arguments import ArgPath, argument_at, replace_arguments, writes_in_place
from gradkernels.engines.hooks.capture.boundary import BoundaryCall
from gradkernels.engines.hooks.capture.tape import Tape
from gradkernels.engines.hooks.errors import Unfit
from gradkernels.engines.hooks.parameter_use import ParameterUse

VMAP_BYTES = 1 << 23
"""Of rows that are formed before they are written to their place."""


def run_vmap_call(tape: Tape, step: BoundaryCall, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Run the call as it is; it is called again for each sample alone when the gradient is there.

    Args:
        tape: The pass.
        step: The call.
        args: Its arguments by position.
        kwargs: Its arguments by name.
    """
    name = step.name
    if writes_in_place(step.function):
        raise Unfit(f"{name} changes data in place with a parameter")
    output = step.function(*args, **kwargs)
    if not isinstance(output, torch.Tensor):
        raise Unfit(f"{name} has several outputs and no rule")
    data = [argument_at(args, kwargs, place) for place in step.data]
    axis = tape.output_axis(step, args, kwargs, output)
    tape.listen(VmapCall(tape, step, args, kwargs, data), output, axis, data)
    tape.tracker.mark_boundary(output, axis)
    return output


class VmapCall(ParameterUse):
    """A call of any function with one output."""

    def __init__(
        self, tape: Tape, step: BoundaryCall, args: tuple[Any, ...], kwargs: Mapping[str, Any], data: Sequence[Array]
    ) -> None:
        self.targets = tape.targets(step, args, kwargs)
        # Without their graph, which would keep all that came before alive.
        self._data = [tensor.detach() for tensor in data]
        self._arguments = replace_arguments({"args": args, "kwargs": kwargs}, dict.fromkeys(step.data))
        self._step = step
        self._n = tape.n

    def write(self, target: ArgPath | str, g: Array, out: Array, at: slice, add: bool) -> None:
        """Write rows by vmap over the samples of a vjp of the call of one sample, some at a time.

        Args:
            target: Key of the target.
            g: Gradient of the output, `(n, ...)`.
            out: Memory for the rows of samples `at`.
            at: Which samples.
            add: Whether to add to what is there.
        """
        size, first = max(1, VMAP_BYTES // max(1, out[:1].nbytes)), at.start or 0
        for start in range(0, len(out), size):
            some = slice(start, start + size)
            rows = self._rows(target, g, slice(first + start, first + min(start + size, len(out))))
            if add:
                out[some] += rows
            else:
                out[some] = rows

    def _rows(self, target: ArgPath | str, g: Array, at: slice) -> Array:
        axes = self._step.data.values()
        apart = [axis.split(tensor, self._n) for axis, tensor in zip(axes, self._data, strict=True)]
        parts = [_part(tensor, dim, at) for tensor, dim in apart]
        single = torch.vmap(lambda g, *data: self._vjp(target, g, data), in_dims=(0, *(dim for _, dim in apart)))
        try:
            return single(g[at], *parts)
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            raise Unfit(f"{self._step.name} cannot be called for one sample alone: {error}") from error

    def _vjp(self, target: Any, g: Array, data: tuple[Array, ...]) -> Array:
        """Return the gradient by one target of one sample."""
        step = self._step
        axes = step.data.items()
        known: dict[Any, Any] = {place: axis.one(tensor) for (place, axis), tensor in zip(axes, data, strict=True)}
        known |= {place: other.tensor.detach() for place, other in self.targets.items() if place != target}

        def call(tensor: Array) -> Array:
            given = replace_arguments(self._arguments, {**known, target: tensor})
            return step.function(*given["args"], **given["kwargs"])

        pulling: tuple[Array, Callable[..., tuple[Array, ...]]]
        pulling = torch.func.vjp(call, self.targets[target].tensor.detach())  # type: ignore[assignment]
        output, pull = pulling
        return pull(g.reshape(output.shape))[0]


def _part(tensor: Array, dim: int, at: slice) -> Array:
    return tensor[(slice(None),) * dim + (at,)]
