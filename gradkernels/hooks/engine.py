"""One forward and one backward pass, whatever is made of the gradients on the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from gradkernels.backend import Array
from gradkernels.hooks.complete import require_complete
from gradkernels.hooks.draws import one_draw
from gradkernels.hooks.probe import Step, Unfit, probe
from gradkernels.hooks.rules import start_of
from gradkernels.hooks.tape import Arrived, Entry, Tape
from gradkernels.hooks.use import Use
from gradkernels.memory import ordinary
from gradkernels.problems.module import ModuleProblem
from gradkernels.problems.structure import swapped
from gradkernels.tree import Tree, count, each, leaves

MOST_MISSES = 1
"""Plans that did not fit, of one kind of input, after which no other is made."""


class Listener:
    """Passes what arrives on to a consumer, for one backward pass."""

    def __init__(self) -> None:
        self._consumer: Arrived | None = None

    def __call__(self, use: Use, g: Array) -> None:
        """A gradient has arrived."""
        if self._consumer is not None:
            with torch.no_grad():
                self._consumer(use, g)

    @contextmanager
    def passing_on(self, consumer: Arrived) -> Iterator[None]:
        """A context in which `consumer` hears; then it is let go, or what it keeps would keep the graph alive."""
        self._consumer = consumer
        try:
            yield
        finally:
            self._consumer = None


@dataclass(frozen=True)
class Pass:
    """A forward pass that is ready to be differentiated.

    Attributes:
        theta: The parameters, as leaves of its graph.
        losses: Of each sample, `(n,)`.
        shared: Names of the parameters whose rows come from more than one use, or from what was made of them.
        sources: Where backward passes end.
        listener: Called as gradients arrive.
    """

    theta: dict[str, Array]
    losses: Array
    shared: frozenset[str]
    sources: list[Any]
    listener: Listener

    def backward(self, consumer: Arrived, weights: Array | None = None, keep: bool = False) -> None:
        """The backward pass of the sum of the losses, or of the weighted losses; `consumer` gets what arrives."""
        if self.sources:
            total = self.losses.sum() if weights is None else self.losses @ weights
            with self.listener.passing_on(consumer):
                torch.autograd.grad(total, self.sources, retain_graph=keep, allow_unused=True)


@dataclass
class Plan:
    """What is known of a model's forward pass for inputs of one kind.

    Attributes:
        entries: What it calls, in order.
        shared: Names of the parameters whose rows come from more than one use, or from what was made of them.
        checked: Whether no way to a parameter is left out, which is looked at once.
    """

    entries: list[Entry]
    shared: frozenset[str]
    checked: bool = False

    def check(self, results: list[Array], tape: Tape, theta: dict[str, Array]) -> None:
        """Raise an Unfit if something would be left out."""
        if not self.checked:
            require_complete(results, tape.kept, theta)
            self.checked = True


class Engine:
    """Differentiates one problem; what it finds out about the model is kept for inputs of the same kind.

    Args:
        problem: Whose model.
        losses: `losses(output, y)`, the loss of each sample; the problem's own by default.
    """

    def __init__(self, problem: ModuleProblem, losses: Callable[[Tree, Tree], Array] | None = None) -> None:
        self._problem = problem
        self._losses = losses or problem.losses
        self._sites = problem.sites()
        self._plans: dict[Any, Plan] = {}
        self._misses = Counter[Any]()

    @contextmanager
    def forward(self, theta: dict[str, Array], x: Tree, y: Tree) -> Iterator[Pass]:
        """A context in which the model has run forward and holds theta.

        Args:
            theta: Parameters by name.
            x: Inputs, samples first.
            y: Targets, samples first.
        """
        problem, listener = self._problem, Listener()
        with torch.inference_mode(False), torch.enable_grad():
            leaf = {name: _leaf(tensor) for name, tensor in theta.items()}
            x, y = each(ordinary, x), each(ordinary, y)
            with self._holding(leaf):
                with self._following(x):
                    plan = self._plan(leaf, x)
                    with self._again(), Tape(plan.entries, count(x), leaf, listener) as tape:
                        output = problem.output(x)
                    losses = self._losses_of(output, y)
                    plan.check([losses], tape, leaf)
                yield Pass(leaf, losses, plan.shared, tape.sources, listener)

    @contextmanager
    def _following(self, x: Tree) -> Iterator[None]:
        """A context that lets go of a plan that does not fit, and gives up where the next one does not either."""
        try:
            yield
        except Unfit:
            self._misses[_kind(x)] += 1
            self._plans.pop(_kind(x), None)
            raise

    def _losses_of(self, output: Tree, y: Tree) -> Array:
        try:
            return self._losses(output, y)
        except Exception as error:  # whatever the caller's loss raises for a batch, it may not for one sample
            raise Unfit(f"loss_fn cannot take a batch's output apart: {error}") from error

    def drawing(self) -> AbstractContextManager[None]:
        """A context around all chunks of a call, whose samples draw one after the other."""
        return nullcontext() if self._problem.randomness == "same" else self._problem.drawing()

    def _again(self) -> AbstractContextManager[None]:
        """A context around each chunk: a draw that is the same for all samples starts anew."""
        return self._problem.drawing() if self._problem.randomness == "same" else nullcontext()

    def prepare(self, theta: dict[str, Array], x: Tree) -> None:
        """Find out what there is to know for such inputs, which takes their values."""
        with torch.inference_mode(False), torch.enable_grad():
            leaf, x = {name: _leaf(tensor) for name, tensor in theta.items()}, each(ordinary, x)
            with self._holding(leaf):
                plan = self._plan(leaf, x)
                with self._again(), Tape(plan.entries, count(x), leaf, Listener()) as tape:
                    output = self._problem.output(x)
                plan.check(leaves(output), tape, leaf)

    def _holding(self, theta: dict[str, Array]) -> AbstractContextManager[None]:
        of_model = (module._parameters[name] for (module, name), *_ in self._sites.values())
        if all(one is other for one, other in zip(of_model, theta.values(), strict=True)):
            return nullcontext()
        return swapped(self._sites, theta)

    def _plan(self, theta: dict[str, Array], x: Tree) -> Plan:
        key = _kind(x)
        if self._misses[key] > MOST_MISSES:
            raise Unfit("the model did not do what it was seen to do before")
        if key not in self._plans:
            steps = probe(self._problem, theta, x)
            self._plans[key] = Plan([_entry(step) for step in steps], _shared(steps))
        return self._plans[key]


def _kind(x: Tree) -> tuple[Any, ...]:
    """What a plan is good for: structure is the problem's, so shapes and dtypes of a sample."""
    return tuple((tuple(array.shape[1:]), array.dtype) for array in leaves(x))


def _leaf(tensor: Array) -> Array:
    """The tensor itself if it is a parameter, else the same memory as a leaf that can be differentiated by."""
    if tensor.requires_grad and tensor.is_leaf:
        return tensor
    return ordinary(tensor).detach().requires_grad_()


def _entry(step: Step) -> Entry:
    """What the pass does at a step."""
    if step.boundary:
        return step.function, step, start_of(step.function)
    return (step.function, step, one_draw(step)) if step.draws else (step.function, None, None)


def _shared(steps: list[Step]) -> frozenset[str]:
    """Parameters that are used more than once, or not as they are."""
    uses = Counter(name for step in steps if step.boundary for names in step.parameters.values() for name in names)
    derived = {
        name
        for step in steps
        if not step.boundary and step.parameters
        for of in step.parameters.values()
        for name in of
    }
    return frozenset({name for name, times in uses.items() if times > 1} | derived)
