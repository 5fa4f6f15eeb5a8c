"""One call of the caller's model that is looked at: followed while it runs, heard of in the caller's backward pass."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, ExitStack
from contextvars import ContextVar
from functools import partial
from typing import Any

import torch
from torch.autograd.graph import get_gradient_edge

from gradkernels.backend import Array
from gradkernels.engines.hooks.capture.checkpointing import Surroundings
from gradkernels.engines.hooks.capture.function_kinds import Answers
from gradkernels.engines.hooks.capture.guesses import Guesses
from gradkernels.engines.hooks.following import Following, GradientListener
from gradkernels.engines.hooks.parameter_use import ParameterUse
from gradkernels.problems.module.buffers import AS_THEY_ARE, with_copied_buffers
from gradkernels.problems.module.random_state import rng_state
from gradkernels.problems.module.structure import Module
from gradkernels.watch.errors import CannotWatch
from gradkernels.watch.graphs.plans import GraphPlan, Heard, plan_of
from gradkernels.watch.model_calls import tensors_of, without_compiler

OnArrival = Callable[["SeenCall"], None]
"""Told of a forward pass before its first gradient is taken, in each backward pass."""


WRITES = (
    "the model writes to its inputs in this forward pass and did not before, so that it cannot run again, followed: "
    "give it copies"
)

_FOLLOWED: ContextVar[bool] = ContextVar("followed", default=False)
"""Whether a call is followed now; what is known of a tensor is kept on it, once."""


class SeenCall:
    """A forward pass. It lives as long as the graph that it has made.

    Args:
        theta: Parameters by name, as the model holds them.
        inputs: Tensors with the samples along `axis`.
        arguments: What the model is called with, by position and by name.
        guesses: Which constants that are as many as samples have one for each.
        axis: Of the inputs that is the samples.
        plan: What is known of passes with the graph that this one probably has; then nothing is followed.

    Attributes:
        plan: What is known of this pass's graph, once it has ended; None where it is to be followed each time.
        n: Number of samples.
        listener: Hears of the gradients of single uses.
        gradients: Of the outputs, by their number, once they have arrived.
        shared: Names of parameters with several uses.
        can_be_split: Whether samples can go through the model alone: they are first in all outputs, nothing is drawn.
        thread: That has called the model.
        is_followed: Whether uses hear by their tensors, not by nodes of a graph that is known.
        ends: Number of each node where a backward pass for samples alone may end, and of its output.
        heard: Uses that are heard at the nodes of a known graph; None where it is not known.
        buffers: The model's as they were before the pass, by place: of those that passes write to, as far as is known.
    """

    def __init__(
        self, theta: dict[str, Array], inputs: list[Array], arguments: tuple[Any, dict[str, Any]], guesses: Guesses,
        axis: int = 0, plan: GraphPlan | None = None,
    ) -> None:  # fmt: skip
        self.theta, self.n, self.arguments, self._axis = theta, inputs[0].shape[axis], arguments, axis
        self.listener = GradientListener()
        self.gradients: dict[int, Array] = {}
        self.outputs: list[torch.Size] = []
        self.shared, self.repeats, self.can_be_split = frozenset[str](), False, False
        self._device = next(iter(theta.values())).device
        self._running, self._before = ExitStack(), b""
        self._surroundings: Surroundings | None = None
        self._following: Following | None = None
        self.plan, self._answers = plan, Answers()
        self.is_followed = plan is None
        if self.n > 1 and plan is None:
            self._following = Following(theta, self.n, self.listener, guesses=guesses, for_caller=True)
        self._versions = _versions(inputs)
        self.heard: Heard | None = None
        self.buffers: Mapping[str, Array] = AS_THEY_ARE
        self._inputs, self.thread, self.ends = inputs, threading.get_ident(), frozenset[tuple[int, int]]()

    def begin(self) -> None:
        """Follow what is called from now on."""
        if _FOLLOWED.get():
            raise CannotWatch("two watches follow one call: ask one of them for all quantities, of the outer module")
        token = _FOLLOWED.set(True)
        self._running.callback(_FOLLOWED.reset, token)
        self._before, self._surroundings = rng_state(self._device), Surroundings()
        self._running.enter_context(without_compiler())
        if self._following is not None:
            self._running.enter_context(self._following.running(self._inputs, self._axis))
        elif self.plan is not None and self.plan.answers:
            self._running.enter_context(self._answers)

    def stop(self) -> None:
        """Follow nothing any more."""
        self._running.close()

    def end(self, output: Any, arrived: OnArrival) -> bool:
        """Follow nothing any more, and hear of what comes back through the output; return False for another graph.

        Args:
            output: The model's.
            arrived: Told of it in the backward pass.
        """
        self.stop()
        self._arrived, written = arrived, _versions(self._inputs) != self._versions
        self._inputs = []
        outputs = tensors_of(output)
        self.outputs = [one.shape for one in outputs]
        if self._following is not None:
            self._end_following(self._following, output, outputs)
            self.plan = None if written else self.plan
        elif self.plan is not None:
            same = self._answers.given == self.plan.answers
            self.heard = self.plan.listen(outputs, self.listener) if same else None
            if self.heard is None and written:
                raise CannotWatch(WRITES)
            if self.heard is None:
                return False
            self._know(self.plan.shared, self.plan.first, self.heard.ends)
        for number, one in enumerate(outputs):
            if one.requires_grad:
                one.register_hook(partial(self._take, number))
        self.wait()
        return True

    def _end_following(self, following: Following, output: Any, outputs: list[Array]) -> None:
        following.check_outputs(output)
        first, self.repeats = following.has_samples_first(outputs), following.repeats
        self._know(following.shared, first, following.sources)
        self.plan = None if self._axis else plan_of(following, outputs, first)
        following.forget_graph()

    def _know(self, shared: frozenset[str], first: bool, ends: Iterable[Any]) -> None:
        self.shared, self.ends = shared, frozenset((node._sequence_nr(), number) for node, number, *_ in ends)
        self.can_be_split = first and not self._axis and rng_state(self._device) == self._before

    def _take(self, number: int, g: Array) -> None:
        """Keep the gradient of an output."""
        if isinstance(self.listener.consumer, _Waiting):
            self.begin_backward()
        if not isinstance(self.listener.consumer, _Waiting):
            self.gradients[number] = g

    def reaches_parameters(self) -> bool:
        """Return whether the backward pass that runs now gives parameters gradients; one for inputs alone does not."""
        try:
            nodes = (get_gradient_edge(one).node for one in self.theta.values())
            return any(map(torch._C._will_engine_execute_node, nodes))
        except RuntimeError:  # they are what torch.autograd.grad is asked for
            return True

    def surroundings(self) -> AbstractContextManager[None]:
        """Return a context with the random numbers and the autocast that the model was called with."""
        assert self._surroundings is not None
        return self._surroundings.again()

    def wait(self) -> None:
        """Wait for a backward pass: `arrived` is told of its first gradient."""
        self.gradients = {}
        if self.heard is not None:
            self.heard.waiting.close()
        self.listener.consumer = _Waiting(self)

    def begin_backward(self) -> None:
        """Tell of a backward pass that has come."""
        self._arrived(self)

    def close(self) -> None:
        """Hear of nothing any more, and let later backward passes through."""
        self.stop()
        self.listener.consumer = None
        if self.heard is not None:
            self.heard.waiting.close()
        if self._following is not None:
            self._following.close()


def _versions(inputs: Iterable[Array]) -> list[int]:
    """Return how often tensors have been written to."""
    return [0 if one.is_inference() else one._version for one in inputs]


def followed_again(call: SeenCall, again: SeenCall, run: Callable[..., Any], model: Module, arrived: OnArrival) -> Any:
    """Return the output of a call that runs again and is followed, as its graph was not the one that was expected.

    Args:
        call: Of which nothing was followed.
        again: That is followed, with the same random numbers and copies of the buffers.
        run: Runs the model.
        model: It.
        arrived: Told of the call in the backward pass.
    """
    again.buffers = call.buffers
    with call.surroundings(), with_copied_buffers(model, call.buffers):
        again.begin()
        try:
            output = run(*call.arguments)
        except BaseException:
            again.close()
            raise
        again.end(output, arrived)
    return output


class _Waiting:
    """What hears first of a backward pass, through a use or through an output."""

    def __init__(self, call: SeenCall) -> None:
        self._call = weakref.ref(call)  # which the outputs keep alive, in the graph

    def __call__(self, use: ParameterUse, g: Array) -> None:
        call = self._call()
        if call is not None:
            call.begin_backward()
            if call.listener.consumer is not self:  # else nobody wants to hear of this backward pass
                call.listener(use, g)


class CallsWithGraphs:
    """Forward passes that a backward pass may still go through: their graphs are there."""

    def __init__(self) -> None:
        self._calls: list[weakref.ref[SeenCall]] = []

    def add(self, call: SeenCall) -> None:
        """Know of a forward pass that is over, for as long as its graph is there."""
        self._calls.append(weakref.ref(call))

    def alive(self) -> list[SeenCall]:
        """Return them, the first one first."""
        found = [(one, one()) for one in self._calls]
        self._calls = [one for one, call in found if call is not None]
        return [call for _, call in found if call is not None]

    def close(self) -> None:
        """Hear of none any more."""
        for call in self.alive():
            call.close()
        self._calls = []
