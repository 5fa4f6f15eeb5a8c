"""Random functions where every sample sees the same draw: drawn for one sample alone, in the order of a loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.nn import functional
from torch.utils._python_dispatch import _disable_current_modes

from gradkernels.backend import Array
from gradkernels.engines.hooks.arguments import TorchFunction, bind_by_name, walk_arguments
from gradkernels.engines.hooks.capture.boundary import BoundaryCall
from gradkernels.engines.hooks.capture.boundary_rules import RunBoundary
from gradkernels.engines.hooks.capture.follow.tracked_call import TrackedArgument
from gradkernels.engines.hooks.capture.sample_axis import Axis
from gradkernels.engines.hooks.capture.tape import Tape
from gradkernels.engines.hooks.errors import Unfit
from gradkernels.problems.module.random_state import generator_states


def multiply_by_one_draw(drop: Callable[[Array], Array], x: Array, axis: Axis, n: int, inplace: bool = False) -> Array:
    """Return `drop(x)` with the same factors for every sample.

    Args:
        drop: Multiplies its argument by random factors.
        x: Of n samples.
        axis: Where they are in it.
        n: Their number.
        inplace: Whether x itself is multiplied.
    """
    if axis.packed:
        raise Unfit("dropout of packed sequences has no rule for one draw of all samples: unpack them before it")
    apart, dim = axis.split(x, n)
    one = axis.one(apart.select(dim, 0))
    factors = drop(torch.ones(one.shape, dtype=x.dtype, device=x.device))
    if axis.merged:
        factors = factors.unsqueeze(dim).expand_as(apart).reshape(x.shape)
    return x.mul_(factors) if inplace else x * factors


def _dropout(names: tuple[str, ...]) -> RunBoundary:
    """Run calls of dropout, of entries or of whole channels."""

    def start(tape: Tape, step: BoundaryCall, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Array:
        given = bind_by_name(names, args, kwargs)
        x, inplace = given.pop("input"), given.pop("inplace", False)
        axis = next(iter(step.data.values()))
        return multiply_by_one_draw(lambda one: step.function(one, **given), x, axis, tape.n, inplace)

    return start


ATTENTION = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal", "scale", "enable_gqa")


def _attention(tape: Tape, step: BoundaryCall, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Array:
    """Run attention with dropout, as torch computes it where it has no fused kernel for it."""
    given = bind_by_name(ATTENTION, args, kwargs)
    places = {ATTENTION[place[1]] if place[0] == "args" else place[1]: axis for place, axis in step.data.items()}
    query, key, value = (given[name] for name in ATTENTION[:3])
    axis = places.get("query")
    if axis is None or axis.dim >= query.ndim - 2:
        raise Unfit("scaled_dot_product_attention with dropout and queries without samples has no rule for one draw")
    if given.get("enable_gqa", False):
        key, value = (one.repeat_interleave(query.shape[-3] // one.shape[-3], -3) for one in (key, value))
    scale = given.get("scale")
    logits = query @ key.mT * (query.shape[-1] ** -0.5 if scale is None else scale)
    weights = _masked(logits, given.get("attn_mask"), given.get("is_causal", False)).softmax(-1)
    return multiply_by_one_draw(lambda one: torch.dropout(one, given["dropout_p"], True), weights, axis, tape.n) @ value


def _masked(logits: Array, mask: Array | None, causal: bool) -> Array:
    """Write minus infinity where attention may not go."""
    if causal:
        mask = torch.ones(logits.shape[-2:], dtype=torch.bool, device=logits.device).tril()
    if mask is None:
        return logits
    return logits.masked_fill(~mask, -float("inf")) if mask.dtype == torch.bool else logits + mask


DROPOUT_NAMES = ("input", "p", "training", "inplace")
NATIVE_NAMES = ("input", "p", "train")
ONE_DRAW: dict[TorchFunction, RunBoundary] = {
    functional.dropout: _dropout(DROPOUT_NAMES),
    functional.dropout1d: _dropout(DROPOUT_NAMES),
    functional.dropout2d: _dropout(DROPOUT_NAMES),
    functional.dropout3d: _dropout(DROPOUT_NAMES),
    torch.dropout: _dropout(NATIVE_NAMES),
    torch.feature_dropout: _dropout(NATIVE_NAMES),
    functional.scaled_dot_product_attention: _attention,
}
"""How calls that draw for several samples are run."""


def call_with_one_draw(
    tape: Tape,
    function: TorchFunction,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    data: Sequence[TrackedArgument],
) -> Any:
    """Run a call with one draw for all samples.

    Args:
        tape: The pass.
        function: What is called.
        args: Its arguments by position.
        kwargs: Its arguments by name.
        data: Those with samples.

    Raises:
        Unfit: It draws random numbers for its samples in another way than dropout does.
    """
    if data and _drops(function, args, kwargs):
        step = BoundaryCall(function, {one.place: one.axis for one in data}, {})
        return ONE_DRAW[function](tape, step, args, kwargs)
    before = generator_states()
    result = function(*args, **kwargs)
    if _same(before, generator_states()) or not (data or _sized(result, tape.n)):
        return result
    raise Unfit(
        f"{getattr(function, '__name__', function)} draws random numbers for all samples together, randomness='same' "
        "needs one draw for all: use dropout, or randomness='different'"
    )


def _drops(function: TorchFunction, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Return whether it is a call that has a way to be run with one draw, and draws at all."""
    if function not in ONE_DRAW:
        return False
    if function is functional.scaled_dot_product_attention:
        return bool(bind_by_name(ATTENTION, args, kwargs).get("dropout_p", 0.0))
    given = bind_by_name(
        NATIVE_NAMES if function in (torch.dropout, torch.feature_dropout) else DROPOUT_NAMES, args, kwargs
    )
    return bool(given.get("training", given.get("train", True)) and given.get("p", 0.5))


def _sized(result: Any, n: int) -> bool:
    """Return whether a result is as long as the batch along one of its axes."""
    return any(isinstance(one, torch.Tensor) and n in one.shape for _, one in walk_arguments(result))


def _same(states: list[Array], others: list[Array]) -> bool:
    """Return whether random numbers are in the same states; whoever notes operations is not to see the comparison."""
    with _disable_current_modes():
        return all(map(torch.equal, states, others))
