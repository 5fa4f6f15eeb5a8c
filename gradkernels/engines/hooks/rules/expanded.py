"""Calls that copy a parameter for each sample: `token.expand(n, -1, -1)`, a table's rows for ids of each sample.

That there are as many copies as samples shows that they are the samples'. Where it is by chance, the axes do not agree
with those of the data that they meet, and no gradient comes back through what they meet in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.nn import functional

from gradkernels.backend import Array
from gradkernels.engines.hooks.arguments import TorchFunction, bind_by_name
from gradkernels.engines.hooks.capture.boundary import BoundaryCall
from gradkernels.engines.hooks.capture.sample_axis import Axis
from gradkernels.engines.hooks.capture.tape import Tape
from gradkernels.engines.hooks.parameter_use import ParameterTensor
from gradkernels.engines.hooks.rules.lookup.embedding import EMBEDDING
from gradkernels.engines.hooks.rules.materialized import MaterializedUse
from gradkernels.engines.hooks.rules.rule import run_by_rule

RunCopy = Callable[[Tape, BoundaryCall, tuple[Any, ...], Mapping[str, Any]], Any]
"""Runs a call of parameters alone that may make a copy for each sample; gives None where it does not."""


class BroadcastUse(MaterializedUse):
    """A tensor that is broadcast, along the samples and perhaps other axes; the rows are sums over the others.

    Args:
        target: What is broadcast.
        shape: To what.
        dim: The axis of the samples in that.
    """

    def __init__(self, target: ParameterTensor, shape: torch.Size, dim: int) -> None:
        self.targets = {"input": target}
        own = target.tensor.ndim
        # Without the samples' axis, which the target has with one entry or not at all.
        self._kept = dim >= len(shape) - own
        self._dim, self._more = dim, len(shape) - own - (not self._kept)

    def rows(self, target: Any, g: Array, at: slice) -> Array:
        """Sum over what is broadcast.

        Args:
            target: Key of the target.
            g: Gradient of the output, for samples `at`.
            at: Which samples.
        """
        if self._kept:
            g = g.unsqueeze(self._dim + 1)
        shape = self.targets[target].tensor.shape
        return g.sum_to_size(len(g), *[1] * self._more, *shape).view(len(g), *shape)


class TiledUse(MaterializedUse):
    """A tensor whose copies follow each other along one of its axes; the rows are the gradients.

    Args:
        target: What is repeated.
    """

    def __init__(self, target: ParameterTensor) -> None:
        self.targets = {"input": target}

    def rows(self, target: Any, g: Array, at: slice) -> Array:
        """Return each copy's gradient.

        Args:
            target: Key of the target.
            g: Gradient of the output, for samples `at`.
            at: Which samples.
        """
        return g.reshape(len(g), *self.targets[target].tensor.shape)


def broadcast(tape: Tape, step: BoundaryCall, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Run `expand` and `repeat` to as many entries as there are samples; return None for other calls.

    Args:
        tape: The pass.
        step: The call.
        args: Its arguments by position.
        kwargs: Its arguments by name.
    """
    (place,) = step.parameters
    tensor = args[0] if place == ("args", 0) else None
    output = step.function(*args, **kwargs)
    axis = None if tensor is None else _new(tensor.shape, output.shape, tape.n)
    if axis is None or not output.requires_grad:
        return None
    target = tape.targets(step, args, kwargs)[place]
    tape.listen(TiledUse(target) if axis.merged else BroadcastUse(target, output.shape, axis.dim), output, axis, [])
    alike = axis == Axis(0) and output[0].numel() == target.tensor.numel()
    tape.tracker.mark_boundary(output, axis, copied=tensor if alike else None)
    return output


def _new(before: torch.Size, after: torch.Size, n: int) -> Axis | None:
    """Return the axis of n copies, where a shape is broadcast to another, or the copies follow each other along one."""
    own = (*[1] * (len(after) - len(before)), *before)
    changed = [dim for dim, (one, other) in enumerate(zip(own, after, strict=True)) if one != other]
    if len(changed) == 1 and own[changed[0]] > 1 and after[changed[0]] == n * own[changed[0]]:
        return Axis(changed[0], own[changed[0]])
    if any(own[dim] != 1 for dim in changed):
        return None
    return next((Axis(dim) for dim in changed if after[dim] == n), None)


def repeated_lookup(tape: Tape, step: BoundaryCall, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Run `embedding` of ids `(n, ...)` that do not come from the data; return None for other calls.

    Args:
        tape: The pass.
        step: The call.
        args: Its arguments by position.
        kwargs: Its arguments by name.
    """
    place = ("args", 0) if args else ("kwargs", "input")
    ids = args[0] if args else kwargs["input"]
    if place in step.parameters:
        return None
    if (axis := tape.guesses.axis(ids, tape.n)) is not None:
        return run_by_rule(EMBEDDING)(tape, BoundaryCall(step.function, {place: axis}, step.parameters), args, kwargs)
    ((at, names),) = step.parameters.items()
    options = bind_by_name(EMBEDDING.names, args, kwargs)
    special = ("padding_idx", "max_norm", "scale_grad_by_freq", "sparse")
    if not tape.targets(step, args, kwargs)[at].direct or any(options.get(one) not in (None, False) for one in special):
        return None
    output = step.function(*args, **kwargs)
    tape.tracker.mark_table_rows(output, names, ids)
    return output


def product_by_copies(tape: Tape, args: tuple[Any, ...]) -> Array | None:
    """Multiply by the matrix that each sample has a copy of, where `bmm` or `baddbmm` gets its copies.

    Returns:
        None where it is another call.
    """
    *added, data, copies = args
    matrix, known = tape.tracker.copied_parameter(copies), tape.tracker.tag(data)
    if matrix is None or copies.ndim != 3 or known is None or known.axis != Axis(0) or known.copied is not None:
        return None
    product = torch.matmul(data, _without_samples(matrix))
    return product + added[0] if added else product


def _without_samples(matrix: Array) -> Array:
    """Return the matrix with two axes; the parameter itself, where it was given one for the samples."""
    if matrix.ndim == 2:
        return matrix
    base = matrix._base
    return base if base is not None and base.shape == matrix.shape[1:] else matrix[0]


PRODUCTS_BY_COPIES = (torch.bmm, torch.Tensor.bmm, torch.baddbmm, torch.Tensor.baddbmm)
"""What `product_by_copies` may run."""

EXPANDED: dict[TorchFunction, RunCopy] = {
    torch.Tensor.expand: broadcast,
    torch.Tensor.expand_as: broadcast,
    torch.Tensor.repeat: broadcast,
    torch.broadcast_to: broadcast,
    torch.Tensor.broadcast_to: broadcast,
    functional.embedding: repeated_lookup,
}
"""How such calls are run."""
