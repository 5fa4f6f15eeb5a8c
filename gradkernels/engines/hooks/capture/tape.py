"""The forward pass as it is run: samples followed from call to call, every boundary kept for the backward pass.

Nothing is known of the model beforehand, and nothing is kept of it afterwards: where the samples are in a tensor
follows from where they are in those that it is made of (`gradkernels.engines.hooks.capture.follow`). A tensor in which
they cannot be told apart may still be computed with, but no gradient may come back through it: then the backward pass
raises.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.autograd.graph import get_gradient_edge
from torch.overrides import TorchFunctionMode

from gradkernels.backend import Array
from gradkernels.engines.hooks.arguments import ArgPath, argument_at, replace_arguments
from gradkernels.engines.hooks.capture.boundary import BoundaryCall, HeardUse
from gradkernels.engines.hooks.capture.boundary_rules import BoundaryRules, GradientConsumer, RunWithOneDraw
from gradkernels.engines.hooks.capture.composite_functions import COMPOSITES
from gradkernels.engines.hooks.capture.follow.output_axis import output_axis
from gradkernels.engines.hooks.capture.follow.tracked_call import TrackedArgument
from gradkernels.engines.hooks.capture.function_kinds import Answers, function_kind
from gradkernels.engines.hooks.capture.guesses import Guesses
from gradkernels.engines.hooks.capture.sample_axis import Axis
from gradkernels.engines.hooks.capture.tags import JOINT_DRAW, Made, Other
from gradkernels.engines.hooks.capture.tracker import SampleTracker
from gradkernels.engines.hooks.capture.views import block_of, unviewed
from gradkernels.engines.hooks.errors import Unfit
from gradkernels.engines.hooks.parameter_use import ParameterTensor, ParameterUse
from gradkernels.problems.module.structure import Parameters

_KINDS: dict[Any, str] = {}
"""What is asked first of a function at each call, as `function_kind` says it."""


class Tape(TorchFunctionMode):
    """Runs one forward pass.

    Args:
        rules: How calls that take parameters are run.
        n: Number of samples, at least 2.
        theta: Parameters that the model holds.
        arrived: What becomes of the gradients.
        alike: Runs a call so that all samples see the same draw; None where each may see its own.
        each: Whether each is to see its own.
        guesses: Which constants that are as many as samples have one for each.
        for_caller: Whether the graph is the caller's, whose parameters get gradients in it.

    Attributes:
        n: Number of samples.
        tracker: What is known of the tensors, and where a backward pass may end.
        uses: How often each parameter is used; twice for what is made of it.
        hooked, pulled: Parameters of which something made has hooks of the model's, or is taken back without autograd.
        segments: Number of outputs of checkpointed parts.
        guesses: Which constants that are as many as samples have one for each.
        wanted: Parameters that get gradients from parts that run again.
        heard: Uses whose gradients are waited for, in a caller's graph.
        answers: What the model's Python was told when it asked what data hold, as for a branch.
    """

    def __init__(
        self, rules: BoundaryRules, n: int, theta: Parameters, arrived: GradientConsumer,
        alike: RunWithOneDraw | None = None, each: bool = False, guesses: Guesses | None = None,
        for_caller: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.n, self.segments, self.guesses, self.answers = n, 0, guesses or Guesses(), Answers()
        self.tracker, self.uses = SampleTracker(n, theta, for_caller), Counter[str]()
        self.hooked, self.pulled = set[str](), set[str]()
        self._rules, self._alike, self._each = rules, alike, each
        self.wanted = tuple(theta.values()) if for_caller else ()
        self._theta, self._arrived, self._paused, self.heard = theta, arrived, False, list[HeardUse]()

    @property
    def draws_once(self) -> bool:
        """Whether all samples are to see the same draws."""
        return self._alike is not None

    def restarted(self) -> Tape:
        """Return a tape that follows a part of the model another time."""
        more = self._arrived, self._alike, self._each, self.guesses, bool(self.wanted)
        return Tape(self._rules, self.n, self._theta, *more)

    @property
    def is_paused(self) -> bool:
        """Whether nothing is followed now."""
        return self._paused

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Follow nothing within the context."""
        self._paused = True
        try:
            yield
        finally:
            self._paused = False

    def add_checkpoint(self, output: Array, axis: Axis, start: Array, sentence: str) -> None:
        """Take an output of a checkpointed part for a boundary, whose uses are heard of when it runs again.

        Args:
            output: It.
            axis: Where its samples are, which is looked at when it runs again.
            start: A leaf of the part's graph; a backward pass to it goes through the part.
            sentence: Why no gradient may come back, where the samples cannot be there.
        """
        self.segments += 1
        if not axis.fits(output.shape, self.n):
            self.tracker.refuse_gradient(output, sentence)
            return
        self.tracker.mark_boundary(output, axis)
        self.tracker.boundaries.add(get_gradient_edge(output).node)
        self.tracker.sources.append(get_gradient_edge(start))

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the call as it is, or as a boundary runs it."""
        kwargs = kwargs or {}
        kind = _KINDS.get(func)
        if kind is None:
            kind = _KINDS[func] = function_kind(func, self._rules.special)
        if kind == "looks":
            return self.answers.__torch_function__(func, types, args, kwargs)
        if kind == "metadata" or self._paused:
            return func(*args, **kwargs)
        if kind == "composite":
            with self:
                return COMPOSITES[func](*args, **kwargs)
        if kind == "special" and not kwargs:
            with self:
                special = self._rules.special[func](self, args)
            if special is not None:
                return special
        data, made, others = self.tracker.classify(args, kwargs)
        if kind == "like":  # data say of which kind or shape the result is, not what it holds
            data = [one for one in data if one.place == ("args", 0)]
        if made and torch.is_grad_enabled():
            result = self._with_parameters(func, args, kwargs, data, made, others)
        else:
            result = self._alike(self, func, args, kwargs, data) if self._alike else func(*args, **kwargs)
            if data:
                self.tracker.mark_result(func, args, kwargs, data, result)
        if kind == "draws" and self._each:
            if made:
                raise Unfit(JOINT_DRAW)
            if not data:
                self.tracker.mark_drawn(result)
        if others:
            self.tracker.mark_mixed(func, args, others, result)
        return result

    def _with_parameters(
        self, func: Any, args: Any, kwargs: Any, data: list[TrackedArgument], made: dict[ArgPath, Made],
        others: list[Other],
    ) -> Any:  # fmt: skip
        """Run a call that takes parameters: a boundary, or what makes something of parameters alone."""
        names = {place: of for place, (_, of) in made.items()}
        if not data:
            copied = self._rules.copies.get(func)
            if copied and (copy := copied(self, BoundaryCall(func, {}, names), args, kwargs)) is not None:
                return copy
            known = {*names, *(place for place, *_ in others)}
            data = self.guesses.arguments(args, kwargs, known, self.n) if func in self._rules.rules else []
        if not data:
            result = func(*args, **kwargs)
            self.tracker.mark_derived(func, args, result, names)
            if func in self._rules.recipes and not kwargs:
                self._rules.remember(self, func, args, result, names)
            return result
        # What comes from elsewhere than the parameters ends here.
        outside = {one.place: one.tensor.detach() for one in data if not one.flows and one.tensor.requires_grad}
        if outside and not self.wanted:
            given = replace_arguments({"args": args, "kwargs": kwargs}, outside)
            args, kwargs = given["args"], given["kwargs"]
            data = [one._replace(tensor=outside.get(one.place, one.tensor)) for one in data]
        step = BoundaryCall(func, {one.place: one.axis for one in data}, names)
        return self._rules.rules.get(func, self._rules.other)(self, step, args, kwargs)

    def output_axis(self, step: BoundaryCall, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Array) -> Axis:
        """Return where the samples are in a boundary's output; raise an Unfit where they cannot be told apart.

        Args:
            step: The call.
            args: Its arguments by position.
            kwargs: Its arguments by name.
            output: What it gives.
        """
        data = [TrackedArgument(at, argument_at(args, kwargs, at), axis, True) for at, axis in step.data.items()]
        return output_axis(step.function, args, kwargs, data, output, self.n)

    def parameter_tensor(self, names: tuple[str, ...], tensor: Array) -> ParameterTensor:
        """Describe what a boundary differentiates by."""
        whole = self._theta[names[0]]
        return ParameterTensor(tensor, names, tensor is whole, whole, block_of(tensor, whole))

    def parameters_behind(self, names: tuple[str, ...]) -> dict[str, ParameterTensor]:
        """Return the parameters of these names, as they are, by name."""
        return {name: self.parameter_tensor((name,), self._theta[name]) for name in names}

    def table_rows(self, tensor: Array) -> tuple[ParameterTensor, Array] | None:
        """Return the parameter that a tensor is rows of, and of which words; None where it is something else."""
        if (found := self.tracker.table_words(tensor)) is None:
            return None
        return self.parameter_tensor(found[0], self._theta[found[0][0]]), found[1]

    def targets(
        self, step: BoundaryCall, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> dict[ArgPath, ParameterTensor]:
        """Return the targets of a call by path.

        Args:
            step: The call.
            args: Its arguments by position.
            kwargs: Its arguments by name.
        """
        return {at: self.parameter_tensor(of, argument_at(args, kwargs, at)) for at, of in step.parameters.items()}

    def listen(self, use: ParameterUse, output: Array, axis: Axis, data: Sequence[Array]) -> None:
        """Have `use` told when the gradient of `output` arrives.

        Args:
            use: The use.
            output: Of its call.
            axis: Where the samples are in it.
            data: What comes from earlier boundaries.
        """
        if not axis.fits(output.shape, self.n):  # else a gradient of one row would be broadcast to all samples
            raise Unfit(f"a {type(use).__name__} gives another number of samples than the batch has")
        if not output.requires_grad:
            raise Unfit(f"a {type(use).__name__} has an output that cannot be differentiated")
        heard = unviewed(output, [*data, *(target.tensor for target in use.targets.values())])
        use = self._rules.remade(self, use)
        for target in use.targets.values():
            self.uses.update(target.names * (1 if target.direct else 2))
        arrived, n, shape = self._arrived, self.n, output.shape

        def hear(g: Array) -> None:
            arrived(use, axis.first(g.reshape(shape), n))

        heard.register_hook(hear)
        edge = get_gradient_edge(heard)
        self.tracker.boundaries.add(edge.node)
        if self.wanted:
            self.heard.append(HeardUse(use, edge.node, edge.output_nr, shape, axis))
        if not any(one.requires_grad for one in data):
            self.tracker.sources.append(edge)
