"""The caller's forward and backward passes: what arrives in each of the latter is kept, and handed over at its end."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch.autograd import Variable

from gradkernels.adapters.opacus.kept import ArrivedGradients
from gradkernels.adapters.opacus.loss_graph import SamplesEnds, ends_for_samples
from gradkernels.backend import Array
from gradkernels.engines.hooks.precision import without_autocast
from gradkernels.problems.module.differentiable import is_called_by_us
from gradkernels.problems.module.structure import Module
from gradkernels.watch.audit import WatchAudits
from gradkernels.watch.backward import BackwardPass
from gradkernels.watch.calls_seen import CallsWithGraphs, SeenCall
from gradkernels.watch.completeness import Completeness, Directions, compared
from gradkernels.watch.errors import CannotWatch
from gradkernels.watch.model_calls import ModelCalls, watched_module
from gradkernels.watch.passes import KnownPasses, TrainedParameters

BUFFER = (
    "the forward pass changes the buffer {name} of a layer that is trained: what it keeps of the samples has no noise, "
    "and so no privacy; take a layer without such a buffer, or freeze its parameters"
)

CALLED_UNDER_AUTOCAST = (
    "the private model is called under autocast, in which gradients of single samples are not followed here: call it "
    "outside of that, or take Opacus' own PrivacyEngine"
)

UNHEARD = (
    "the loss depends on {names}, and no gradient of a sample has come there, so that it is not clipped: report "
    "this sentence to the authors of gradkernels, and take grad_sample_mode='hooks'"
)

FULL = 16
"""Of so many passes for samples alone one has the parameters' gradients too."""

LOSS = (
    "{error}: as in Opacus, gradients are taken to be of the loss that loss_reduction says, and so are not the "
    "samples' own; clipping and privacy are as ever"
)


class PassFollower:
    """Follows the calls of a model in train mode, and keeps what arrives in the backward passes through them.

    Args:
        model: As the caller calls it.
        reduction: Of the caller's loss, `mean` or `sum`.
        axis: Of the inputs that is the samples.
        take: Called at the end of each backward pass with what was kept of it.

    Attributes:
        listens: Whether backward passes are looked at.
    """

    def __init__(self, model: Module, reduction: str, axis: int, take: Callable[[ArrivedGradients], None]) -> None:
        self._model, self._reduction, self._axis, self._take = model, reduction, axis, take
        self._watched = watched_module(model)
        self._directions, self._draw = Directions(), random.Random()
        self._known, self._trained = KnownPasses(self._watched, axis=axis), TrainedParameters(self._watched)
        self._audits = WatchAudits(self._watched, (), self._draw)
        self._pending = CallsWithGraphs()
        self._current: SeenCall | None = None
        self._backward: BackwardPass | None = None
        self._passes, self._buffers, self.listens = 0, dict[str, tuple[int, int]](), True
        self._alone, self._reached = False, frozenset[str]()
        self._calls: ModelCalls | None = ModelCalls(model, self._begin, self._end)

    def __reduce__(self) -> Any:
        """Return what makes a copy, which follows a copy of the model."""
        return type(self), (self._model, self._reduction, self._axis, self._take)

    @property
    def is_following(self) -> bool:
        """Whether calls of the model are followed."""
        return self._calls is not None

    def add_hooks(self) -> None:
        """Follow calls of the model."""
        self._calls = self._calls or ModelCalls(self._model, self._begin, self._end)

    def remove_hooks(self) -> None:
        """Follow none any more."""
        if self._calls is not None:
            self._calls.remove()
        self._pending.close()
        self._calls = None

    def _begin(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Begin to follow a call of the model, if it is one of training."""
        self._current = None
        again = torch._C._current_graph_task_id() != -1  # of a part that is checkpointed
        if is_called_by_us() or again or not (torch.is_grad_enabled() and self._watched.training and self.listens):
            return
        theta = self._trained.usable()
        if torch.is_autocast_enabled(next(iter(theta.values())).device.type):
            raise CannotWatch(CALLED_UNDER_AUTOCAST)
        assert self._calls is not None
        call = self._known.begin(theta, (args, kwargs), self._calls)
        self._buffers, self._current = self._trained_buffers(), call
        call.begin()

    def _trained_buffers(self) -> dict[str, tuple[int, int]]:
        """Return which tensors the buffers of trained layers are, and how often they have been written to."""
        found = dict[str, tuple[int, int]]()
        for prefix, layer in self._watched.named_modules():
            if layer._buffers and any(one is not None and one.requires_grad for one in layer._parameters.values()):
                buffers = {f"{prefix}.{name}": one for name, one in layer._buffers.items() if one is not None}
                found |= {name: (id(one), one._version) for name, one in buffers.items()}
        return found

    def _end(self, output: Any) -> Any:
        """Follow nothing any more; listen to what comes back through the output, or through another in its place."""
        call, self._current = self._current, None
        if call is None or output is None:
            if call is not None:
                call.close()
            return None
        assert self._calls is not None
        seen, instead = self._known.end(call, output, self._calls, self._arrived)
        self._pending.add(seen)
        self._require_buffers()
        return instead

    def _require_buffers(self) -> None:
        """Raise a CannotWatch where the pass has changed buffers of trained layers."""
        if self._buffers:
            now = self._trained_buffers()
            if changed := [name for name, one in self._buffers.items() if now.get(name) != one]:
                raise CannotWatch(BUFFER.format(name=changed[0]))

    def _arrived(self, call: SeenCall) -> None:
        """Take it that gradients arrive for a forward pass, maybe the first of a backward pass."""
        task = torch._C._current_graph_task_id()
        if self._backward is not None and self._backward.task != task:  # that one raised
            self._backward.close()
            self._backward = None
        if not self.listens or not (self._backward or self._alone or call.reaches_parameters()):
            return
        if self._backward is None:
            self._passes += 1
            names = () if self._alone else compared([*call.theta], self._passes, self._draw)
            check = Completeness(call.theta, self._directions, names)
            calls = [*dict.fromkeys([*self._pending.alive(), call])]
            self._backward = BackwardPass(calls, {}, True, True, check, restore=False)
            Variable._execution_engine.queue_callback(self._finish)
        self._backward.begin(call, frozenset(call.theta) if call.repeats else frozenset())

    def backward(self, loss: Array) -> None:
        """Run the backward pass of a loss, after which nobody looks at what it leaves in `.grad`.

        Gradients of parameters are left out of it, but for passes 1, 2, 4, 8, ... and each sixteenth, whose sums are
        held against them, and but for a loss that depends on more than these parameters.
        """
        calls, number = self._pending.alive(), self._passes + 1
        may_be_alone = number & (number - 1) and number % FULL and len(calls) == 1
        ends = ends_for_samples(loss, calls[0]) if may_be_alone else SamplesEnds([])
        if not ends.edges:
            loss.backward()
            return
        self._alone, self._reached = True, ends.reached
        try:
            torch.autograd.grad(loss, ends.edges, allow_unused=True)
        finally:
            self._alone, self._reached = False, frozenset()

    def _warn_of_loss(self, backward: BackwardPass) -> None:
        """Warn of a loss that ends otherwise than was said: Opacus takes it as was said, and so do we."""
        try:
            backward.require_loss(self._reduction, 1.0)
        except CannotWatch as error:
            warnings.warn(LOSS.format(error=error), stacklevel=2)

    def _finish(self) -> None:
        """Hand over what has arrived, once a backward pass is over."""
        backward, self._backward = self._backward, None
        if backward is None:
            return
        try:
            with torch.no_grad(), without_autocast(backward.device):
                backward.require_same_samples()
                backward.require_all()
                self._warn_of_loss(backward)
                (samples,) = backward.samples.values()
                factor = backward.factor(samples, self._reduction, None)
                kept = ArrivedGradients(samples, factor)
                if unheard := self._reached - kept.arrived:
                    raise CannotWatch(UNHEARD.format(names=", ".join(sorted(unheard)[:4])))
                if kept.n:
                    self._audits.audit(backward, {"norms": kept.lengths}, factor)
        finally:
            backward.close()
        self._take(kept)
