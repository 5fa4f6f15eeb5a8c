"""The list of rules by function, and the axis of samples in a call's output by the rule of its function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch.nn import functional

from gradkernels.backend import Array
from gradkernels.engines.hooks.arguments import TorchFunction, function_name
from gradkernels.engines.hooks.capture.follow import dimwise, indexing, shapes, structured
from gradkernels.engines.hooks.capture.follow.pointwise import POINTWISE, pointwise
from gradkernels.engines.hooks.capture.follow.tracked_call import AxisRule, TrackedArgument, TrackedCall
from gradkernels.engines.hooks.capture.sample_axis import Axis
from gradkernels.engines.hooks.errors import Unfit

AXIS_RULES: dict[str, AxisRule] = {
    **dict.fromkeys(POINTWISE, pointwise),
    **shapes.SHAPE_RULES,
    **dimwise.DIMWISE_RULES,
    **structured.STRUCTURED_RULES,
    "__getitem__": indexing.getitem,
    "index_select": indexing.index_select,
    "__setitem__": indexing.setitem,
}
"""By the function's name, without the underscore of what works in place."""

_KNOWN: dict[TorchFunction, AxisRule | None] = {}


def axis_rule_of(function: TorchFunction) -> AxisRule | None:
    """Return the rule of a torch function; None if there is none."""
    if function is functional.unfold:  # into patches; that of a tensor is along one axis
        return AXIS_RULES["im2col"]
    name = function_name(function)
    if name in AXIS_RULES or name.startswith("__"):
        return AXIS_RULES.get(name)
    return AXIS_RULES.get(name.removesuffix("_"))


def _known_rule(function: TorchFunction) -> AxisRule | None:
    try:
        return _KNOWN[function]
    except KeyError:
        _KNOWN[function] = found = axis_rule_of(function)
        return found


def output_axis(
    function: TorchFunction,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    data: Sequence[TrackedArgument],
    output: Array,
    n: int,
    at: int = 0,
) -> Axis:
    """Return the axis of samples in an output of a call.

    Args:
        function: What is called.
        args: Its arguments by position.
        kwargs: Its arguments by name.
        data: Those with samples.
        output: One of its outputs.
        n: Number of samples.
        at: Which of the outputs it is.

    Raises:
        Unfit: The samples cannot be told apart there.
    """
    rule = _known_rule(function)
    if rule is pointwise and len(data) == 1 and data[0].tensor.ndim == output.ndim:
        axis = data[0].axis
        if axis.fits(output.shape, n):
            return axis
    call = TrackedCall(function, args, kwargs, data, n, at)
    if rule is None:
        raise call.mixes("has no rule that says where the samples are in what it gives")
    try:
        axis = rule(call, output)
    except (IndexError, KeyError, TypeError, AttributeError, StopIteration, ValueError) as error:
        if isinstance(error, Unfit):
            raise
        raise call.mixes(f"is called in a way that its rule does not know ({error})") from error
    if not axis.fits(output.shape, n):
        raise call.mixes("gives another number of samples")
    return axis
