"""A forward pass that is followed, whoever runs the model and whatever loss comes after it: the entry to the engine.

`engine` runs a problem's model and loss through it; `gradkernels.watch` has the caller run both. What is made of the
gradients that arrive is the consumer's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch.utils import _pytree as pytree

from gradkernels.backend import Array
from gradkernels.engines.hooks.capture import checkpointing
from gradkernels.engines.hooks.capture.boundary import HeardUse
from gradkernels.engines.hooks.capture.boundary_rules import BoundaryRules, GradientConsumer, RunWithOneDraw
from gradkernels.engines.hooks.capture.guesses import Guesses
from gradkernels.engines.hooks.capture.loss_guard import LossGuard
from gradkernels.engines.hooks.capture.sample_axis import Axis
from gradkernels.engines.hooks.capture.tape import Tape
from gradkernels.engines.hooks.parameter_use import ParameterUse
from gradkernels.engines.hooks.precision import without_autocast
from gradkernels.engines.hooks.rules import vmap_call
from gradkernels.engines.hooks.rules.made.recipes import RECIPES, remade, remember_recipe
from gradkernels.engines.hooks.rules.table import COPIES, RULES, SPECIAL

BOUNDARY_RULES = BoundaryRules(RULES, vmap_call.run_vmap_call, COPIES, RECIPES, remember_recipe, remade, SPECIAL)


class GradientListener:
    """Passes what arrives on to a consumer.

    Attributes:
        consumer: Gets it; None for nobody.
    """

    def __init__(self) -> None:
        self.consumer: GradientConsumer | None = None

    def __call__(self, use: ParameterUse, g: Array) -> None:
        """Pass a gradient on that has arrived."""
        if self.consumer is None:
            return
        if torch.is_autocast_enabled(g.device.type):  # backward() was called within its context
            with without_autocast(g.device):
                self._pass_on(use, g)
        else:
            self._pass_on(use, g)

    def _pass_on(self, use: ParameterUse, g: Array) -> None:
        assert self.consumer is not None
        if not torch.is_grad_enabled():  # in all backward passes but those that are differentiated themselves
            for part in use.parts(g):
                self.consumer(*part)
            return
        with torch.no_grad():
            for part in use.parts(g):
                self.consumer(*part)

    @contextmanager
    def passing_on(self, consumer: GradientConsumer) -> Iterator[None]:
        """Pass gradients on to `consumer` within the context; after it what the consumer keeps keeps no graph alive."""
        self.consumer = consumer
        try:
            yield
        finally:
            self.consumer = None


class Following:
    """Follows the samples through one forward pass of a model, and hears the gradients of its boundaries.

    Args:
        theta: Parameters by name, the very tensors that the model holds.
        n: Number of samples, at least 2.
        arrived: Called with each use and its output's gradient, in whatever backward pass comes.
        alike: Runs a call so that all samples see the same draw; None where each may see its own.
        each: Whether each sample is to see draws of its own.
        guesses: Which constants that are as many as samples have one for each.
        for_caller: Whether the graph is the caller's, who runs its backward pass: nothing is cut off from it.
    """

    def __init__(
        self, theta: dict[str, Array], n: int, arrived: GradientConsumer, *, alike: RunWithOneDraw | None = None,
        each: bool = False, guesses: Guesses | None = None, for_caller: bool = False,
    ) -> None:  # fmt: skip
        self._tape = Tape(BOUNDARY_RULES, n, theta, arrived, alike, each, guesses, for_caller)

    @contextmanager
    def running(self, inputs: Iterable[Array], axis: int = 0) -> Iterator[None]:
        """Follow what torch functions are called within the context; inputs have the samples along `axis`."""
        self._tape.tracker.mark_inputs(inputs, axis)
        with checkpointing.tracking(self._tape):
            yield

    def check_outputs(self, output: Any) -> list[Array]:
        """Return the tensors of the model's output, whose gradients raise where they cannot be told apart by sample.

        A problem's output has the samples first. The caller's has them anywhere, and may have a loss of all beside.
        """
        outputs = [one for one in pytree.tree_leaves(output) if isinstance(one, torch.Tensor)]
        callers = bool(self._tape.wanted)
        if callers:
            self._tape.tracker.allow_gradients(ndim=0)
        self._tape.tracker.check_outputs(outputs, anywhere=callers)
        return outputs

    def has_samples_first(self, outputs: Iterable[Array]) -> bool:
        """Return whether the first axis of all outputs that can be differentiated is the samples', in their order."""
        tags = [self._tape.tracker.tag(one) for one in outputs if one.requires_grad]
        return all(tag is not None and tag.axis == Axis(0) for tag in tags)

    def guarded(self, outputs: Sequence[Array]) -> AbstractContextManager[Any]:
        """Return a context in which nothing of the pass may be taken but its outputs."""
        return LossGuard(self._tape, outputs)

    @property
    def shared(self) -> frozenset[str]:
        """Names of the parameters that have several uses, or from which something is made, as far as is known."""
        return frozenset(name for name, times in self._tape.uses.items() if times > 1)

    @property
    def used(self) -> frozenset[str]:
        """Names of the parameters that have a use, as far as is known."""
        return frozenset(self._tape.uses)

    @property
    def sources(self) -> list[Any]:
        """Where backward passes may end."""
        return self._tape.tracker.sources

    @property
    def heard(self) -> list[HeardUse]:
        """Uses whose gradients are waited for."""
        return self._tape.heard

    @property
    def refuses(self) -> bool:
        """Whether gradients may not come back everywhere."""
        return bool(self._tape.tracker.refusals)

    @property
    def answers(self) -> list[Any]:
        """What the model's Python was told when it asked what data hold; told otherwise, it may go another way."""
        return self._tape.answers.given

    @property
    def repeats(self) -> bool:
        """Whether parts of the pass run again in the backward pass."""
        return bool(self._tape.segments)

    def forget_graph(self) -> None:
        """Hold no more of the graph: it then lives as long as the caller's tensors do."""
        self._tape.tracker.sources.clear()
        self._tape.tracker.boundaries.clear()
        self._tape.heard.clear()

    def close(self) -> None:
        """Take off what would make a later backward pass through the same tensors raise."""
        self._tape.tracker.allow_gradients()
