"""`x[index]`, `index_select` and `x[index] = value`: by arithmetic for slices, else by numbers sent the same way."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from gradkernels.backend import Array
from gradkernels.engines.hooks.capture.follow.dimwise import select_by_index
from gradkernels.engines.hooks.capture.follow.tracked_call import TrackedCall
from gradkernels.engines.hooks.capture.sample_axis import Axis, SamplePermutation
from gradkernels.engines.hooks.capture.tags import TensorTag

NOT_KEPT = "takes some of the samples, or all of them in another order"


def getitem(call: TrackedCall, output: Array) -> Axis:
    """Return where the samples are in a part of a tensor."""
    one, index = call.args[0], call.args[1]
    followed = next((item for item in call.data if item.tensor is one), None)
    if followed is None:
        raise call.mixes("takes parts that samples tell from what has none")
    if _basic(index):
        dim = _kept(index, one.ndim, followed.axis.dim)
        axis = None if dim is None else followed.axis.moved(dim)
        if axis is None or not axis.fits(output.shape, call.n):
            raise call.mixes(NOT_KEPT)
        return axis
    picked = _without_values(index, one.ndim, followed.axis.dim)
    return _by_numbers(call._replace(args=(one, picked)), one, followed.axis, output)


def _without_values(index: Any, ndim: int, dim: int) -> Any:
    """Return an index by which the same samples are picked, with zeros for what is picked along other axes.

    Those may come from data, which a recording cannot look at: `states[torch.arange(n), lengths - 1]`.

    Args:
        index: Of whole numbers, slices and tensors.
        ndim: Number of axes of what is indexed.
        dim: That of the samples.
    """
    if any(isinstance(part, torch.Tensor) and part.dtype in (torch.bool, torch.uint8) for part in _parts(index)):
        return index
    parts, at = [], 0
    for part in _full(index, ndim):
        other = isinstance(part, torch.Tensor) and at != dim
        parts.append(torch.zeros(part.shape, dtype=torch.int64, device=part.device) if other else part)
        at += part is not None
    return tuple(parts)


def _by_numbers(call: TrackedCall, one: Array, axis: Axis, output: Array) -> Axis:
    """Index the numbers of the samples in the same way: each must be along one axis once."""
    try:
        with torch.no_grad():
            found = call.function(axis.numbers(one.shape, call.n, one.device), *call.args[1:], **call.kwargs)
            known = (axis_of_numbers(found, dim, call.n) for dim, size in enumerate(output.shape) if size == call.n)
            kept = next((one for one in known if one is not None), None)
    except RuntimeError as error:  # inside vmap, or where nothing is computed
        raise call.mixes(NOT_KEPT) from error
    if kept is None:
        raise call.mixes(NOT_KEPT)
    return kept


def axis_of_numbers(numbers: Array, dim: int, n: int) -> Axis | None:
    """Return the axis of samples along which each of their numbers is once, the same at all other places; None if none.

    Args:
        numbers: Of the sample that each entry belongs to.
        dim: The axis.
        n: Number of samples, and of entries along it.
    """
    along = numbers.movedim(dim, 0).reshape(n, -1)
    order = along[:, 0].long()
    natural = torch.arange(n, device=order.device)
    if not torch.equal(along, along[:, :1].expand_as(along)) or not torch.equal(order.sort().values, natural):
        return None
    return Axis(dim) if torch.equal(order, natural) else Axis(dim, order=SamplePermutation(order))


def index_select(call: TrackedCall, output: Array) -> Axis:
    """Return where the samples are in entries along an axis; also along their own, if each is taken once."""
    one, dim = call.first, call.argument(1, "dim")
    if one.place != ("args", 0) or dim % one.tensor.ndim != one.axis.dim:
        return select_by_index(call, output)
    return _by_numbers(call, one.tensor, one.axis, output)


def looks_at_index(function: Any, args: Any, tag: TensorTag | None) -> bool:
    """Return whether the rule of a call has looked at the index by which it picks entries, or samples.

    Args:
        function: What is called.
        args: By position.
        tag: What is known of the result.
    """
    if function is torch.Tensor.__getitem__:
        return True
    if function not in (torch.Tensor.index_select, torch.index_select) or tag is None or tag.axis is None:
        return False
    return args[1] in (tag.axis.dim, tag.axis.dim - args[0].ndim)


def setitem(call: TrackedCall, output: Array) -> Axis:
    """Return where the samples are in a tensor that a part of has been written to."""
    base, index, value = call.args[:3]
    if not _basic(index):
        raise call.mixes("writes to places that a tensor tells")
    axes = []
    for one in call.data:
        if one.tensor is base:
            if _kept(index, base.ndim, one.axis.dim) is None:
                raise call.mixes("writes to some of the samples")
            axes.append(one.axis)
        elif one.tensor is value:
            axes.append(_of_base(call, base, index, value, one.axis))
    return call.agreed(axes)


def _of_base(call: TrackedCall, base: Array, index: Any, value: Array, axis: Axis) -> Axis:
    """Return the axis of a tensor that the samples of what is written to a part of it come to lie along."""
    ndim = base.ndim - _count(index, int) + _count(index, type(None))
    at = axis.dim + ndim - value.ndim
    for dim in range(base.ndim):
        if _kept(index, base.ndim, dim) == at and base.shape[dim] == call.n * axis.inner:
            return axis.moved(dim)
    raise call.mixes("writes samples to places of other samples")


def _parts(index: Any) -> tuple[Any, ...]:
    return index if isinstance(index, tuple) else (index,)


def _basic(index: Any) -> bool:
    """Return whether an index has whole numbers, slices, None and an ellipsis only."""
    return all(
        part is None or part is Ellipsis or isinstance(part, slice) or (type(part) is int) for part in _parts(index)
    )


def _count(index: Any, kind: type) -> int:
    return sum(isinstance(part, kind) for part in _parts(index))


def _kept(index: Any, ndim: int, dim: int) -> int | None:
    """Return where an axis is after a basic index; None if it is taken apart."""
    out = at = 0
    for part in _full(index, ndim):
        if part is None:
            out += 1
            continue
        if at == dim:
            whole = isinstance(part, slice) and part.step in (None, 1) and part.start in (None, 0)
            return out if whole else None
        at += 1
        out += isinstance(part, slice)
    return None


def _full(index: Any, ndim: int) -> Iterator[Any]:
    """Yield the parts of an index, with a slice for each axis that it does not name."""
    parts = _parts(index)
    missing = ndim - sum(part is not None and part is not Ellipsis for part in parts)
    seen = False
    for part in parts:
        if part is Ellipsis:
            seen = True
            yield from [slice(None)] * missing
        else:
            yield part
    if not seen:
        yield from [slice(None)] * missing
