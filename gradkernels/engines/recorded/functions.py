"""What is recorded: functions of tensors alone, one for each quantity, of what the hooks engine does for one chunk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch.utils._python_dispatch import _disable_current_modes

from gradkernels.backend import Array
from gradkernels.engines.hooks.accumulate.accumulators import RowSums, RowWriter, SquaredNorms
from gradkernels.engines.hooks.accumulate.book_keeping import BookKeeping
from gradkernels.engines.hooks.accumulate.deviations import RowMoments, SquaredDeviations
from gradkernels.engines.hooks.engine import ForwardPass, HooksEngine
from gradkernels.engines.hooks.precision import HALF_DTYPES
from gradkernels.engines.hooks.quantities import Theta, clip_factors
from gradkernels.engines.hooks.rules.autotune import without_timing
from gradkernels.engines.recorded.trace import holding_untrained
from gradkernels.engines.recorded.uses.doubts import Doubts
from gradkernels.engines.recorded.uses.recorded_uses import recording
from gradkernels.problems.module.conversion import dense
from gradkernels.problems.module.module_problem import ModuleProblem
from gradkernels.tree import Tree, count

RecordedFunction = Callable[..., list[Array]]
"""`function(theta, rest, x, y, *more)`: what is recorded, in a list; `rest` is what is not trained, by place."""


class Passes:
    """Forward passes of a problem's model that are recorded.

    Args:
        problem: Whose model.
        at_once: Whether the losses of a batch are those of its samples, as one of torch's gives them.

    Attributes:
        engine: Of the hooks.
        by_autograd: Whether a gradient is autograd's own; None where nothing was recorded yet.
        draws_one: Whether one draw of random numbers is for all samples.
    """

    def __init__(self, problem: ModuleProblem, at_once: bool = False) -> None:
        self._problem = problem
        self._losses = partial(problem.traceable_losses, at_once=at_once)
        self.engine = HooksEngine(problem, self._losses)
        self.by_autograd: bool | None = None
        self.draws_one = problem.randomness == "same"

    @contextmanager
    def forward(self, theta: Theta, rest: Theta, x: Tree, y: Tree) -> Iterator[ForwardPass]:
        """Run the model forward, holding `theta` and `rest` within the context.

        Args:
            theta: Parameters by name.
            rest: Buffers and frozen parameters by place.
            x: Inputs, samples first.
            y: Targets, samples first.
        """
        with holding_untrained(self._problem, rest), without_timing(), self.engine.forward(theta, x, y) as forward:
            yield forward

    def take_autograd(self, theta: Theta, share: Array) -> bool:
        """Return whether a sum of rows is to be autograd's own, and note it: of one dtype, which is no half precision.

        Args:
            theta: Parameters by name.
            share: What the losses are multiplied by.
        """
        alike = all(one.dtype is share.dtype for one in theta.values())
        fits = alike and not is_half(theta, share) and not self.draws_one
        self.by_autograd = self.by_autograd is not False and fits
        return self.by_autograd

    def batch_gradient(self, theta: Theta, rest: Theta, x: Tree, y: Tree, share: Array) -> list[Array]:
        """Return the gradient of the sum of the losses times `share`, as autograd gives it, in theta's order.

        Args:
            theta: Parameters by name.
            rest: Buffers and frozen parameters by place.
            x: Inputs, samples first.
            y: Targets, samples first.
            share: One number, or one for each sample, `(n,)`.
        """
        with _disable_current_modes(), self.forward(theta, rest, x, y) as forward:
            forward.backward(recording(RowSums(forward.theta), Doubts()))  # raises where samples meet
        leaf = {name: one.detach().requires_grad_() for name, one in theta.items()}
        with torch.enable_grad(), holding_untrained(self._problem, rest), self._problem.with_parameters(leaf):
            total = self._losses(self._problem.output(x), y) @ share.expand(count(y))
            found = torch.autograd.grad(total, [*leaf.values()], materialize_grads=True)  # may run parts again
        return [dense(part) for part in found]


def is_half(theta: Theta, share: Array) -> bool:
    """Return whether something is computed in half precision: by autocast, or since a parameter or `share` has it."""
    dtypes = {share.dtype, *(one.dtype for one in theta.values())}
    return torch.is_autocast_enabled(share.device.type) or not dtypes.isdisjoint(HALF_DTYPES)


def rows(passes: Passes) -> RecordedFunction:
    """Return a function that writes the rows to `out`, by name, and gives nothing."""

    def function(theta: Theta, rest: Theta, x: Tree, y: Tree, out: Theta) -> list[Array]:
        with passes.forward(theta, rest, x, y) as forward:
            consumer = RowWriter(forward.theta, out, forward.shared)
            forward.backward(recording(consumer, Doubts()))
            consumer.finish()
        return []

    return function


def norms(passes: Passes) -> RecordedFunction:
    """Return a function that gives the norms, `(n,)`, and which of them are in doubt."""

    def function(theta: Theta, rest: Theta, x: Tree, y: Tree) -> list[Array]:
        with passes.forward(theta, rest, x, y) as forward:
            doubts = Doubts()
            squares = SquaredNorms(forward.theta, forward.shared, count(y), doubts.of_products)
            forward.backward(recording(squares, doubts))
            return _norms(passes, squares.finish(), doubts)

    return function


def _norms(passes: Passes, squares: Array, doubts: Doubts) -> list[Array]:
    """Return norms from their squares, and which are in doubt: those of squares that leave the range of their dtype."""
    if not passes.engine.draws_each:
        limits = torch.finfo(squares.dtype)
        doubts.mark(~((squares > limits.tiny / limits.eps) & (squares < limits.max)))  # also where it is no number
    return [squares.sqrt(), doubts.all(len(squares), squares)]


def gradient(passes: Passes) -> RecordedFunction:
    """Return a function that gives the sums of the rows times `share`, a tensor with one entry, in theta's order.

    Autograd's own backward pass takes whole sequences in one operation, where the hooks take step after step.
    """

    def function(theta: Theta, rest: Theta, x: Tree, y: Tree, share: Array) -> list[Array]:
        if passes.take_autograd(theta, share):
            return passes.batch_gradient(theta, rest, x, y, share)
        with passes.forward(theta, rest, x, y) as forward:
            sums = RowSums(forward.theta)
            # A share has too few digits in half precision, and what is multiplied by it may vanish.
            half = is_half(theta, share) or forward.losses.dtype in HALF_DTYPES
            forward.backward(recording(sums, Doubts()), None if half else share.expand(count(y)))
            totals = sums.finish().values()
            return [one * share for one in totals] if half else [*totals]

    return function


def clipped_sum(passes: Passes) -> RecordedFunction:
    """Return a function that gives the clipped sums in theta's order, the norms, and which of them are in doubt."""

    def function(theta: Theta, rest: Theta, x: Tree, y: Tree, max_norm: Array) -> list[Array]:
        with passes.forward(theta, rest, x, y) as forward:
            doubts = Doubts()
            if forward.repeated:  # what arrives is not to be kept: another backward pass, of weighted losses
                squares = SquaredNorms(forward.theta, forward.shared, count(y), doubts.of_products)
                forward.backward(recording(squares, doubts), keep=True)
                norms, doubtful = _norms(passes, squares.finish(), doubts)
                sums = RowSums(forward.theta)
                forward.backward(recording(sums, Doubts()), clip_factors(norms, max_norm))
                return [*sums.finish().values(), norms, doubtful]
            books = BookKeeping(forward.theta, forward.shared, count(y), doubts.of_products)
            forward.backward(recording(books, doubts))
            norms, doubtful = _norms(passes, books.squares(), doubts)
            return [*books.sums(clip_factors(norms, max_norm)).values(), norms, doubtful]

    return function


def moments(passes: Passes) -> RecordedFunction:
    """Return a function that gives the sums of the rows, then those of their squares, in theta's order."""

    def function(theta: Theta, rest: Theta, x: Tree, y: Tree) -> list[Array]:
        with passes.forward(theta, rest, x, y) as forward:
            powers = RowMoments(forward.theta, forward.shared, count(y))
            forward.backward(recording(powers, Doubts()))
            sums, squares = powers.finish()
            return [*sums.values(), *squares.values()]

    return function


def deviations(passes: Passes, names: frozenset[str]) -> RecordedFunction:
    """Return a function that gives the sums of the squares of the rows less their means, of some parameters.

    Args:
        passes: Of the model.
        names: Of the parameters; the sums are in theta's order.
    """

    def function(theta: Theta, rest: Theta, x: Tree, y: Tree, *means: Array) -> list[Array]:
        with passes.forward(theta, rest, x, y) as forward:
            mean = dict(zip(theta, means, strict=True))
            squares = SquaredDeviations(forward.theta, forward.shared, count(y), mean, names)
            forward.backward(recording(squares, Doubts()))
            totals = squares.finish()
            return [totals[name] for name in theta if name in names]

    return function
