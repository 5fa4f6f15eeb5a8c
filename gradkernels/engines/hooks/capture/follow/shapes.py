"""Functions that arrange the same entries in other axes, by their shapes and whole numbers alone."""

from __future__ import annotations

from typing import Any

from gradkernels.backend import Array
from gradkernels.engines.hooks.capture.follow.tracked_call import AxisRule, TrackedCall, dims_from
from gradkernels.engines.hooks.capture.sample_axis import Axis, axis_after_reshape


def reshape(call: TrackedCall, output: Array) -> Axis:
    """Follow `reshape`, `view`, `flatten` and the like."""
    one = call.first
    axis = (
        axis_after_reshape(one.axis, one.tensor.shape, output.shape, call.n)
        if one.tensor.numel() == output.numel()
        else None
    )
    if axis is None:
        raise call.mixes("lays the samples out over several axes")
    return axis


def permute(call: TrackedCall, output: Array) -> Axis:
    """Follow `permute(dims)`."""
    one = call.first
    dims = call.argument(1, "dims")
    if isinstance(dims, int):
        dims = call.args[1:]
    return one.axis.moved(dims_from(dims, one.tensor.ndim).index(one.axis.dim))


def transpose(first: int | None, second: int | None = None) -> AxisRule:
    """Return the rule for two axes exchanged: those given, or the arguments 1 and 2."""

    def rule(call: TrackedCall, output: Array) -> Axis:
        one = call.first
        ndim = one.tensor.ndim
        if first is None:
            dims: Any = call.argument(1, "dim0", "axis0"), call.argument(2, "dim1", "axis1")
        else:
            dims = first, second
        pair = dims_from(dims, ndim) if ndim > 1 else (0, 0)
        exchanged = {pair[0]: pair[1], pair[1]: pair[0]}
        return one.axis.moved(exchanged.get(one.axis.dim, one.axis.dim))

    return rule


def reverse(call: TrackedCall, output: Array) -> Axis:
    """Follow `x.T`: all axes in the other order."""
    one = call.first
    return one.axis.moved(one.tensor.ndim - 1 - one.axis.dim)


def movedim(call: TrackedCall, output: Array) -> Axis:
    """Follow axes that are moved; the others stay in their order in the places that are left."""
    one = call.first
    ndim = one.tensor.ndim
    sources, targets = (dims_from(call.argument(at, name), ndim) for at, name in ((1, "source"), (2, "destination")))
    placed = dict(zip(targets, sources, strict=True))
    rest = iter([dim for dim in range(ndim) if dim not in sources])
    order = [placed[dim] if dim in placed else next(rest) for dim in range(ndim)]
    return one.axis.moved(order.index(one.axis.dim))


def unsqueeze(call: TrackedCall, output: Array) -> Axis:
    """Follow one axis more."""
    one = call.first
    (dim,) = dims_from(call.argument(1, "dim"), output.ndim)
    return one.axis.moved(one.axis.dim + (dim <= one.axis.dim))


def squeeze(call: TrackedCall, output: Array) -> Axis:
    """Follow axes of one entry taken away, all or those that are named."""
    one = call.first
    named = dims_from(call.argument(1, "dim"), one.tensor.ndim) or range(one.tensor.ndim)
    return one.axis.moved(one.axis.dim - sum(one.tensor.shape[dim] == 1 for dim in named if dim < one.axis.dim))


def expand(call: TrackedCall, output: Array) -> Axis:
    """Follow axes of one entry repeated."""
    one = call.first
    axis = one.axis.moved(one.axis.dim + output.ndim - one.tensor.ndim)
    if not axis.fits(output.shape, call.n):
        raise call.mixes("repeats the samples")
    return axis


def repeat_whole(call: TrackedCall, output: Array) -> Axis:
    """Follow whole tensors beside each other: the samples of a repeated axis vary fastest."""
    one = call.first
    axis = one.axis.moved(one.axis.dim + output.ndim - one.tensor.ndim)
    times, left = divmod(output.shape[axis.dim], one.tensor.shape[one.axis.dim])
    if times == 1:
        return axis
    if left or axis.merged:
        raise call.mixes("repeats the samples")
    return Axis(axis.dim, times, slowest=False, order=axis.order)


def repeat_interleave(call: TrackedCall, output: Array) -> Axis:
    """Follow entries that are repeated one by one."""
    one = call.first
    dims = dims_from(call.argument(2, "dim"), one.tensor.ndim)
    if dims and dims[0] != one.axis.dim:
        return one.axis
    times = call.argument(1, "repeats")
    if not dims or not isinstance(times, int) or not one.axis.slowest or one.axis.packed:
        raise call.mixes("repeats the samples")
    return Axis(one.axis.dim, one.axis.inner * times, order=one.axis.order)


def concatenate(call: TrackedCall, output: Array) -> Axis:
    """Follow `cat`: tensors one behind the other, along another axis than the samples'."""
    axis = call.agreed([one.axis for one in call.data])
    if dims_from(call.argument(1, "dim", "axis", default=0), output.ndim) == (axis.dim,):
        raise call.mixes("lays samples one behind the other")
    return axis


def stack(call: TrackedCall, output: Array) -> Axis:
    """Follow tensors along an axis of their own."""
    axis = call.agreed([one.axis for one in call.data])
    (dim,) = dims_from(call.argument(1, "dim", default=0), output.ndim)
    return axis.moved(axis.dim + (dim <= axis.dim))


def take_one(call: TrackedCall, output: Array) -> Axis:
    """Follow `take_one` and `unbind`: one axis less."""
    one = call.first
    (dim,) = dims_from(call.argument(1, "dim", default=0), one.tensor.ndim)
    if dim == one.axis.dim:
        raise call.mixes("takes the samples apart")
    return one.axis.moved(one.axis.dim - (dim < one.axis.dim))


SHAPE_RULES: dict[str, AxisRule] = {
    **dict.fromkeys(("reshape", "view", "flatten", "ravel", "unflatten", "view_as", "reshape_as"), reshape),
    "permute": permute,
    **dict.fromkeys(("transpose", "swapaxes", "swapdims", "transpose_"), transpose(None)),
    **dict.fromkeys(("mT", "mH", "adjoint"), transpose(-2, -1)),
    "t": transpose(0, 1),
    **dict.fromkeys(("T", "H"), reverse),
    **dict.fromkeys(("movedim", "moveaxis"), movedim),
    "unsqueeze": unsqueeze,
    "squeeze": squeeze,
    **dict.fromkeys(("expand", "expand_as", "broadcast_to"), expand),
    **dict.fromkeys(("repeat", "tile"), repeat_whole),
    "repeat_interleave": repeat_interleave,
    **dict.fromkeys(("cat", "concat", "concatenate"), concatenate),
    "stack": stack,
    **dict.fromkeys(("select", "unbind"), take_one),
}
"""By name."""
