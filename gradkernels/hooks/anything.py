"""Any other call: vmap of its own vjp, over this call alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from gradkernels.backend import Array
from gradkernels.hooks.calls import Place, replaced
from gradkernels.hooks.probe import Step, Unfit
from gradkernels.hooks.tape import Tape, find
from gradkernels.hooks.use import Use

IN_PLACE = ("__setitem__", "__iadd__", "__isub__", "__imul__", "__itruediv__", "__imatmul__")


def start(tape: Tape, step: Step, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Run the call as it is; it is called again for each sample alone when the gradient is there."""
    name = str(getattr(step.function, "__name__", step.function))
    if name in IN_PLACE or (name.endswith("_") and not name.endswith("__")):
        raise Unfit(f"{name} changes data in place with a parameter")
    if step.output is None:
        raise Unfit(f"{name} has several outputs and no rule")
    output = step.function(*args, **kwargs)
    use = Call(tape, step, args, kwargs)
    tape.keep(use, output, step.output, use.data)
    return output


class Call(Use):
    """A call of any function with one output."""

    def __init__(self, tape: Tape, step: Step, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        self.targets = tape.targets(step, args, kwargs)
        self.data = [find(args, kwargs, place) for place in step.data]
        self._arguments = {"args": args, "kwargs": kwargs}
        self._step = step
        self._n = tape.n

    def write(self, target: Place | str, g: Array, out: Array, at: slice, add: bool) -> None:
        """Rows by vmap over the samples of a vjp of the call of one sample."""
        apart = [
            axis.split(tensor.detach(), self._n)
            for axis, tensor in zip(self._step.data.values(), self.data, strict=True)
        ]
        parts = [_part(tensor, dim, at) for tensor, dim in apart]
        rows = torch.vmap(lambda g, *data: self._vjp(target, g, data), in_dims=(0, *(dim for _, dim in apart)))(
            g[at], *parts
        )
        if add:
            out += rows
        else:
            out.copy_(rows)

    def _vjp(self, target: Place | str, g: Array, data: tuple[Array, ...]) -> Array:
        """Gradient by one target of one sample."""
        step = self._step
        axes = step.data.items()
        known = {place: axis.one(tensor) for (place, axis), tensor in zip(axes, data, strict=True)}
        known |= step.sized
        known |= {place: other.tensor.detach() for place, other in self.targets.items() if place != target}

        def call(tensor: Array) -> Array:
            given = replaced(self._arguments, {**known, target: tensor})
            return step.function(*given["args"], **given["kwargs"])

        output, pull = torch.func.vjp(call, self.targets[target].tensor.detach())
        return pull(g.reshape(output.shape))[0]


def _part(tensor: Array, dim: int, at: slice) -> Array:
    return tensor[(slice(None),) * dim + (at,)]
