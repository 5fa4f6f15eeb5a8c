"""Recordings of one function, kept for each kind of input: what the model is like, structure, shapes, layouts, dtypes.

One holds for any number of samples, where two with different numbers of them are alike; else it holds for one number,
and few of these are made. Other sizes, such as the length of a sequence, belong to the kind. What is kept is bounded,
and where new kinds come faster than they are used again nothing is recorded: the hooks engine computes meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from gradkernels.backend import Array
from gradkernels.engines.hooks.accumulate.single_uses import Several
from gradkernels.engines.hooks.errors import Unfit
from gradkernels.engines.recorded.any_number import (
    DependsOnNumber,
    Numbered,
    for_any_number,
    for_one_number,
    numbers_for,
)
from gradkernels.engines.recorded.arguments import Arguments, Beside, PlainKind
from gradkernels.engines.recorded.cuda_graphs import Replays
from gradkernels.engines.recorded.executors import Run, executor_of
from gradkernels.engines.recorded.functions import Passes, RecordedFunction
from gradkernels.engines.recorded.recorder import Recorded, record
from gradkernels.engines.recorded.trace import Untraceable, Untrained, restoring_attributes
from gradkernels.engines.recorded.uses.whole import Method
from gradkernels.problems.module.module_problem import ModuleProblem
from gradkernels.problems.module.random_state import preserved_rng
from gradkernels.problems.module.sample_losses import has_ignored_targets
from gradkernels.tree import Tree

MOST_RECORDED = 16
"""Recordings that are kept; the one that was used the longest time ago makes room."""

MOST_NUMBERS = 3
"""Recordings of one kind that hold for one number of samples each."""

UNUSED_CALLS = 64
"""Calls since the last use of a recording, after which another one may take its place."""

_BelowAutograd, _Uncast = torch._C._AutoDispatchBelowAutograd, torch._C._DisableAutocast
"""Contexts in which operations run as they are: nothing is noted for autograd, nothing is cast."""

NOTHING_BESIDE = Beside()

ALIKE = (
    "the model draws random numbers for all samples together, randomness='same' needs one draw for all: use dropout, "
    "or randomness='different'"
)


@dataclass
class Recording:
    """What is known of one kind of input.

    Attributes:
        run: What runs it for any number of samples; None where there is no such thing.
        refusal: Why it cannot be recorded, as a sentence; empty where it can.
        of_number: What runs it for one number of samples each.
        used: Number of the last call that used it.
    """

    run: Run | None = None
    refusal: str = ""
    of_number: dict[int, Run] = field(default_factory=dict)
    used: int = 0


class Recordings:
    """Runs what is recorded of a function for a problem's model.

    Args:
        problem: Whose model.
        make: `make(passes, **settings)`, the function.

    Attributes:
        problem: Whose model.
        made: How often something was recorded.
    """

    def __init__(self, problem: ModuleProblem, make: Callable[..., RecordedFunction]) -> None:
        self.problem, self._make = problem, make
        self._kinds: dict[Hashable, Recording] = {}
        self._state: Any = None
        self._has_torch_loss = False
        self._untrained, self._of_model, self._of_more = Untrained(problem), PlainKind(), PlainKind()
        self._calls = 0
        self.made = 0

    def __call__(
        self, theta: dict[str, Array], x: Tree, y: Tree, beside: Beside = NOTHING_BESIDE
    ) -> Sequence[Array] | None:
        """Return what the function gives; None where it is not recorded, and is not going to be now.

        Args:
            theta: Parameters by name.
            x: Inputs, samples first.
            y: Targets, samples first.
            beside: What the function takes besides.

        Raises:
            Unfit: It cannot be recorded.
        """
        self._calls += 1
        state = self.problem.mode_key()
        if state is not self._state:
            self._state, self._has_torch_loss = state, self.problem.has_torch_loss
        at_once = self._has_torch_loss and not has_ignored_targets(self.problem.loss_fn, y)
        arguments = Arguments(theta, self._untrained(state), (x, y), beside, at_once)
        plain = self._of_model(arguments.model), self._of_more(beside.more)
        known = self._known((state, *plain, arguments.kind()), arguments)
        if known is None:
            return None
        known.used = self._calls
        if known.refusal:
            raise Unfit(known.refusal)
        run = known.run or self._of_number(known, arguments)
        if run is None:
            return None
        with _as_recorded(arguments.sealed), _BelowAutograd(), _Uncast():
            return run(arguments.n, *arguments.tensors)

    def _known(self, key: Hashable, arguments: Arguments) -> Recording | None:
        """Return what is known of a kind of input, recorded where there is room; it is the last to make room now."""
        known = self._kinds.pop(key, None)
        if known is None:
            if not self._has_room():
                return None
            known = self._record(arguments)
        self._kinds[key] = known
        return known

    def _has_room(self) -> bool:
        """Return whether another kind may be kept, and make room for it."""
        if len(self._kinds) < MOST_RECORDED:
            return True
        oldest = next(iter(self._kinds))
        if self._calls - self._kinds[oldest].used < UNUSED_CALLS:
            return False
        del self._kinds[oldest]
        return True

    def _record(self, arguments: Arguments) -> Recording:
        try:
            one, other = (self._recorded(arguments, n) for n in numbers_for(arguments.sizes()))
            if self.problem.randomness == "same" and one[0].drawn != other[0].drawn:
                raise Untraceable(ALIKE)
            return Recording(self._run(for_any_number(one, other), arguments, one[1]))
        except DependsOnNumber:
            return Recording()
        except Untraceable as error:
            return Recording(refusal=f"torch.recorded cannot record {self.problem.name}: {error}")

    def _of_number(self, known: Recording, arguments: Arguments) -> Run | None:
        """Return what runs this very number of samples, recorded unless others have been already."""
        run = known.of_number.get(arguments.n)
        if run is None and len(known.of_number) < MOST_NUMBERS:
            recorded, n = self._recorded(arguments, arguments.n)
            run = self._run(for_one_number(recorded), arguments, n)
            known.of_number[arguments.n] = run
        return run

    def _recorded(self, arguments: Arguments, n: int) -> Numbered:
        """Record with n samples; again where more becomes known of the model."""
        passes, compiled, first = Passes(self.problem, arguments.at_once), False, None
        while True:
            try:
                return self._record_once(passes, arguments, n, compiled), n
            except Untraceable as error:
                cause, first = error.__cause__, first or error
                if isinstance(cause, Several) and not cause.names <= passes.engine.known_shared:
                    passes.engine.known_shared |= cause.names
                elif isinstance(cause, Unfit) and passes.engine.guesses.another():
                    continue
                elif passes.by_autograd:
                    passes.engine.guesses.begin()
                    passes.by_autograd = False
                elif not compiled:
                    passes.engine.guesses.begin()
                    compiled = True
                else:
                    raise first from first.__cause__

    def _record_once(self, passes: Passes, arguments: Arguments, n: int, compiled: bool) -> Recorded:
        problem, before = self.problem, self.problem.mode_key()
        function = arguments.flat(self._make(passes, **dict(arguments.beside.settings)))
        self.made += 1
        with torch.inference_mode(False), preserved_rng(arguments.theta), restoring_attributes(problem) as changed:
            draws = problem.randomness != "error"
            recorded = record(function, arguments.examples(n), draws, compiled)
        if changed or problem.mode_key() != before:
            names = ", ".join(sorted(changed)) or "hooks or layers"
            raise Untraceable(f"the model changes its own {names} when it is called, and a recording would not")
        return recorded

    def _run(self, recorded: Recorded, arguments: Arguments, n: int) -> Run:
        """Return what runs a recording, as is tried with n samples: after a real call nothing could be tried again."""
        # As they are, since `.data` of a tensor may become another; but nothing of autograd's is kept.
        found = [one if one.is_leaf else one.detach() for one in recorded.found]
        with torch.inference_mode(False), preserved_rng(arguments.theta), _BelowAutograd(), _Uncast():
            run = executor_of(recorded.graph, (n, *arguments.examples(n), *found))
        # What is drawn at random follows the state of a generator, which a graph would have to be told of.
        if arguments.on_one_gpu() and not recorded.drawn:
            return Replays(partial(_run_with, run, (), recorded.methods), arguments.changing(), found)
        return partial(_run_with, run, found, recorded.methods) if found or recorded.methods else run


def _as_recorded(sealed: bool) -> AbstractContextManager[Any]:
    """Return a context with gradients enabled, as they were when operations were noted: some look at that.

    Args:
        sealed: Whether memory is written to that was made under `torch.inference_mode`, which alone may do so.
    """
    as_it_is = torch.is_inference_mode_enabled() is sealed and (sealed or torch.is_grad_enabled())
    return nullcontext() if as_it_is else torch.inference_mode(sealed)


def _run_with(run: Run, found: Sequence[Array], methods: Sequence[Method], n: int, *tensors: Array) -> Sequence[Array]:
    """Run a recording.

    Args:
        run: It.
        found: Tensors that were found besides its arguments.
        methods: That it calls by name, kept as long as it is.
        n: Number of samples.
        tensors: Its arguments.
    """
    return run(n, *tensors, *found)
