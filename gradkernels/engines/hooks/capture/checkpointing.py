"""Activation checkpointing: a part of the model that keeps nothing, and runs again in the backward pass.

The uses of what `torch.utils.checkpoint` runs would keep the activations that it is there to let go. So its calls are
run here while a model is followed: forward without a graph, and again, followed, when the gradient is there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch.utils import _pytree as pytree

from gradkernels.backend import Array
from gradkernels.engines.hooks.capture.sample_axis import Axis
from gradkernels.engines.hooks.capture.tags import TensorTag
from gradkernels.engines.hooks.capture.tape import Tape
from gradkernels.engines.hooks.errors import Unfit
from gradkernels.problems.module import differentiable
from gradkernels.problems.module.random_state import generator_states, set_generator_states

MOVED = "a checkpointed part of the model does not give the samples first"
FROM_PARAMETERS = "a checkpointed part of the model takes a tensor that is made of parameters"


@contextmanager
def tracking(tape: Tape) -> Iterator[None]:
    """Have a tape follow what is called within the context, checkpointed parts included."""

    def run(function: Any, *args: Any, **kwargs: Any) -> Any:
        if tape.is_paused or not torch.is_grad_enabled():  # inside another part, perhaps
            return function(*args, **kwargs)
        return _forward(tape, function, args, kwargs)

    with differentiable.run_by(run), tape:
        yield


def _forward(tape: Tape, function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Run a checkpointed part, and give its outputs a graph that runs it again."""
    given, spec = pytree.tree_flatten((args, dict(kwargs)))
    known = [tape.tracker.tag(one) if isinstance(one, torch.Tensor) else None for one in given]
    if any(tag is not None and tag.axis is None for tag in known):
        raise Unfit(FROM_PARAMETERS)
    flowing = [at for at, tag in enumerate(known) if tag is not None and tag.flows]
    before = Surroundings()
    # One draw for all samples takes to know where they are.
    with nullcontext() if tape.draws_once else tape.paused(), torch.no_grad():
        result = function(*args, **kwargs)
        outputs, shape = pytree.tree_flatten(result)
        floats = [at for at, one in enumerate(outputs) if isinstance(one, torch.Tensor) and one.is_floating_point()]

        def again(g: tuple[Array | None, ...]) -> tuple[Array | None, ...]:
            with before.again(), torch.enable_grad():
                return _backward(tape, function, given, known, spec, floats, flowing, g)

        start = torch.zeros((), requires_grad=True)
    computed, into = [outputs[at] for at in floats], [*(given[at] for at in flowing), *tape.wanted]
    with tape.paused():
        fresh = _Again.apply(again, computed, start, *into)  # type: ignore[no-untyped-call]
    for at, output in zip(floats, fresh, strict=True):
        outputs[at] = output
        tape.add_checkpoint(output, Axis(0), start, MOVED)
    return pytree.tree_unflatten(outputs, shape)


def _backward(
    tape: Tape,
    function: Any,
    given: list[Any],
    known: list[TensorTag | None],
    spec: Any,
    floats: list[int],
    flowing: list[int],
    g: tuple[Array | None, ...],
) -> tuple[Array | None, ...]:
    """Run the part again, followed, and its backward pass to what flows into it."""
    inner = tape.restarted()
    inputs = [inner.tracker.detached_input(*pair) for pair in zip(given, known, strict=True)]
    args, kwargs = pytree.tree_unflatten(inputs, spec)
    try:
        with tracking(inner):
            outputs = pytree.tree_flatten(function(*args, **kwargs))[0]
        pairs = [(outputs[at], one) for at, one in zip(floats, g, strict=True) if one is not None]
        pairs = [(output, one) for output, one in pairs if output.requires_grad]
        inner.tracker.check_outputs([output for output, _ in pairs])
        into = [*(inputs[at] for at in flowing), *tape.wanted]
        ends = [*into, *inner.tracker.sources]
        if not pairs or not ends:
            return (None,) * len(into)
        heads, gradients = zip(*pairs, strict=True)
        found = torch.autograd.grad(heads, ends, gradients, allow_unused=True)
        return tuple(found[: len(into)])
    finally:
        inner.tracker.allow_gradients()


class Surroundings:
    """The states of the random generators and of autocast, now."""

    def __init__(self) -> None:
        self._states = generator_states()
        self._casts = [
            (kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind))
            for kind in ("cpu", "cuda")
            if kind == "cpu" or torch.cuda.is_available()
        ]

    @contextmanager
    def again(self) -> Iterator[None]:
        """Restore the states within the context."""
        with ExitStack() as stack:
            stack.enter_context(torch.random.fork_rng())
            set_generator_states(self._states)
            for kind, dtype, enabled in self._casts:
                stack.enter_context(torch.autocast(kind, dtype, enabled))
            yield


class _Again(torch.autograd.Function):
    """A part of a graph that is made when its gradient is there."""

    @staticmethod
    def forward(ctx: Any, again: Callable[..., Any], outputs: list[Array], *inputs: Array) -> tuple[Array, ...]:
        """Return what has been computed.

        Args:
            ctx: Autograd's context.
            again: Runs the part and its backward pass.
            outputs: What has been computed.
            inputs: The start, and what flows into the part.
        """
        ctx.set_materialize_grads(False)
        ctx.again = again
        return tuple(output.view_as(output) for output in outputs)

    @staticmethod
    def backward(ctx: Any, *g: Array | None) -> tuple[Array | None, ...]:
        """Return the gradients of what flows in; none of the start."""
        return None, None, None, *ctx.again(g)
