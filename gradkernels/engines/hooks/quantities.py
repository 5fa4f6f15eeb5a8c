"""The quantities, each from one forward pass and one or two backward passes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

from gradkernels.backend import Array
from gradkernels.engines.hooks.accumulate import accumulators, deviations
from gradkernels.engines.hooks.accumulate.book_keeping import BookKeeping
from gradkernels.engines.hooks.accumulate.single_uses import Several
from gradkernels.engines.hooks.engine import ForwardPass, HooksEngine
from gradkernels.engines.hooks.errors import Unfit
from gradkernels.engines.hooks.precision import spread_nan
from gradkernels.kernel import Compute
from gradkernels.memory import empty_torch
from gradkernels.problems.module.module_problem import ModuleProblem
from gradkernels.quantity import QUANTITIES, Moments
from gradkernels.tree import Tree, count, take

Theta = dict[str, Array]


def chunk_slices(n: int, chunk: int) -> Iterator[slice]:
    """Yield slices of at most `chunk` samples."""
    for start in range(0, n, chunk):
        yield slice(start, min(start + chunk, n))


def drawing(engine: HooksEngine, compute: Compute) -> Compute:
    """Have all samples of `compute` draw their random numbers one after the other; run it again where more is known."""

    def call(*arrays: Any, **options: Any) -> Any:
        engine.guesses.begin()
        first: Unfit | None = None
        while True:
            try:
                with engine.drawing():
                    return compute(*arrays, **options)
            except Unfit as error:
                first = first or error
                if isinstance(error, Several) and not error.names <= engine.known_shared:
                    engine.known_shared |= error.names
                elif not engine.guesses.another():
                    raise first from first.__cause__

    return call


def per_sample(problem: ModuleProblem, chunk: int) -> Compute:
    """Return a compute of the per-sample gradients, written as the gradients arrive."""
    engine = HooksEngine(problem)

    def compute(theta: Theta, x: Tree, y: Tree, out: Theta | None = None) -> Theta:
        n = count(y)
        rows = {name: empty_torch((n, *one.shape), one) for name, one in theta.items()} if out is None else out
        for part in chunk_slices(n, chunk):
            with engine.forward(theta, take(x, part), take(y, part)) as forward:
                parts = {name: one[part] for name, one in rows.items()}
                consumer = accumulators.RowWriter(forward.theta, parts, forward.shared)
                forward.backward(consumer)
                consumer.finish()
        return rows

    return drawing(engine, compute)


def norms(problem: ModuleProblem, chunk: int) -> Compute:
    """Return a compute of the norms of the per-sample gradients, most of which are not formed."""
    engine = HooksEngine(problem)

    def compute(theta: Theta, x: Tree, y: Tree, out: Array | None = None) -> Array:
        n = count(y)
        widest = max(theta.values(), key=lambda one: one.element_size())
        norms = empty_torch((n,), widest) if out is None else out
        for part in chunk_slices(n, chunk):
            with engine.forward(theta, take(x, part), take(y, part)) as forward:
                squares = accumulators.SquaredNorms(forward.theta, forward.shared, part.stop - part.start)
                forward.backward(squares)
                norms[part] = _norms_from_squares(engine, theta, take(x, part), take(y, part), squares.finish())
        return norms

    return drawing(engine, compute)


def clipped_sum(problem: ModuleProblem, chunk: int) -> Compute:
    """Return a compute of the clipped sum by one backward pass, whose gradients are kept (Bu et al. 2022).

    Norms are taken as the gradients arrive; then the factors are known, and the weighted sums are taken: of rows that
    are small, else of what the gradients are products of.
    """
    engine = HooksEngine(problem)

    def of_part(theta: Theta, x: Tree, y: Tree, max_norm: float) -> Theta:
        with engine.forward(theta, x, y) as forward:
            if forward.repeated:
                return _reweighted(engine, forward, (theta, x, y), max_norm)
            books = BookKeeping(forward.theta, forward.shared, count(y))
            forward.backward(books)
            norms = _norms_from_squares(engine, theta, x, y, books.squares())
            factors = clip_factors(norms, max_norm)
            return spread_nan(books.sums(factors), factors)

    return drawing(engine, _over_parts(of_part, chunk))


def reweighted_sum(problem: ModuleProblem, chunk: int) -> Compute:
    """Return a compute of the clipped sum by two backward passes, the second of weighted losses (Lee & Kifer 2020)."""
    engine = HooksEngine(problem)

    def of_part(theta: Theta, x: Tree, y: Tree, max_norm: float) -> Theta:
        with engine.forward(theta, x, y) as forward:
            return _reweighted(engine, forward, (theta, x, y), max_norm)

    return drawing(engine, _over_parts(of_part, chunk))


def _reweighted(engine: HooksEngine, forward: ForwardPass, data: tuple[Theta, Tree, Tree], max_norm: float) -> Theta:
    squares, sums = (
        accumulators.SquaredNorms(forward.theta, forward.shared, count(data[2])),
        accumulators.RowSums(forward.theta),
    )
    forward.backward(squares, keep=True)
    factors = clip_factors(_norms_from_squares(engine, *data, squares.finish()), max_norm)
    forward.backward(sums, factors)
    return spread_nan(sums.finish(), factors)


def _norms_from_squares(engine: HooksEngine, theta: Theta, x: Tree, y: Tree, squares: Array) -> Array:
    """Return norms from their squares; from rows where the squares have left the range of their dtype."""
    norms, limits = squares.sqrt(), torch.finfo(squares.dtype)
    low, high = torch.aminmax(squares)
    if engine.draws_each or (low > limits.tiny / limits.eps and high < limits.max):
        return norms
    beyond = beyond_range(squares).nonzero().flatten()
    rows = rows_of_samples(engine, theta, take(x, beyond), take(y, beyond))
    norms[beyond] = QUANTITIES["norms"].of(torch, rows).to(norms.dtype)
    return norms


def beyond_range(squares: Array) -> Array:
    """Return which squares have left the range of their dtype, or are no numbers."""
    limits = torch.finfo(squares.dtype)
    return ~((squares > limits.tiny / limits.eps) & (squares < limits.max))


def rows_of_samples(engine: HooksEngine, theta: Theta, x: Tree, y: Tree) -> Theta:
    """Return the per-sample gradients of some samples.

    Args:
        engine: Of the model.
        theta: Parameters by name.
        x: Inputs, samples first.
        y: Targets, samples first.
    """
    with engine.forward(theta, x, y) as forward:
        consumer = accumulators.RowWriter(
            forward.theta, {name: empty_torch((count(y), *one.shape), one) for name, one in theta.items()}
        )
        forward.backward(consumer)
        return consumer.finish()


def clip_factors(norms: Array, max_norm: float | Array) -> Array:
    """Return min(1, max_norm / norm), also for a norm of zero and an infinite max_norm."""
    return (norms / max_norm).clamp_(min=1).reciprocal_()


def _added(total: Theta, more: Theta) -> Theta:
    return {name: total[name] + one for name, one in more.items()} if total else more


def _over_parts(of_part: Callable[..., Theta], chunk: int) -> Compute:
    """Sum over parts of the samples; zero without any."""

    def compute(theta: Theta, x: Tree, y: Tree, max_norm: float = 1.0) -> Theta:
        total: Theta = {}
        for part in chunk_slices(count(y), chunk):
            total = _added(total, of_part(theta, take(x, part), take(y, part), max_norm))
        if not total:
            return {name: torch.zeros_like(one).detach() for name, one in theta.items()}
        return {name: one.to(theta[name].dtype) for name, one in total.items()}

    return compute


def gradient(problem: ModuleProblem, chunk: int) -> Compute:
    """Return a compute of the mean of the per-sample gradients, none of which is formed."""
    engine = HooksEngine(problem)

    def compute(theta: Theta, x: Tree, y: Tree) -> Theta:
        totals: Theta = {}
        for part in chunk_slices(count(y), chunk):
            with engine.forward(theta, take(x, part), take(y, part)) as forward:
                sums = accumulators.RowSums(forward.theta)
                forward.backward(sums)
                totals = _added(totals, sums.finish())
        return {name: (total / count(y)).to(theta[name].dtype) for name, total in totals.items()}

    return drawing(engine, compute)


def moments(problem: ModuleProblem, chunk: int) -> Compute:
    """Return a compute of mean and variance from sums of the rows and of their squares.

    Where these are too much alike, the squares of the deviations are summed in a second pass.
    """
    engine, around = HooksEngine(problem), variances_around(problem, chunk)

    def compute(theta: Theta, x: Tree, y: Tree) -> Moments[Any]:
        totals, squares, n = dict[str, Array](), dict[str, Array](), count(y)
        for part in chunk_slices(n, chunk):
            with engine.forward(theta, take(x, part), take(y, part)) as forward:
                powers = deviations.RowMoments(forward.theta, forward.shared, part.stop - part.start)
                forward.backward(powers)
                more = powers.finish()
            totals, squares = _added(totals, more[0]), _added(squares, more[1])
        mean = {name: total / n for name, total in totals.items()}
        if n == 1:  # zero, or NaN where the mean is not finite
            variance = {name: one - one for name, one in mean.items()}
        else:
            variance = {name: (squares[name] / n - one**2).clamp_(min=0) for name, one in mean.items()}
        if n > 1 and (names := deviations.inaccurate_variances(mean, variance)):
            variance |= around(theta, x, y, mean, names)
        return Moments(*({name: one.to(theta[name].dtype) for name, one in part.items()} for part in (mean, variance)))

    return drawing(engine, compute)


def variances_around(problem: ModuleProblem, chunk: int) -> Callable[..., Theta]:
    """Return `variances(theta, x, y, mean, names)`: of some parameters, the mean of (g - mean)^2 over the samples."""
    engine = HooksEngine(problem)

    def variances(theta: Theta, x: Tree, y: Tree, mean: Theta, names: frozenset[str]) -> Theta:
        totals, n = dict[str, Array](), count(y)
        for part in chunk_slices(n, chunk):
            with engine.forward(theta, take(x, part), take(y, part)) as forward:
                samples = part.stop - part.start
                consumer = deviations.SquaredDeviations(forward.theta, forward.shared, samples, mean, names)
                forward.backward(consumer)
                totals = _added(totals, consumer.finish())
        return {name: total / n for name, total in totals.items()}

    return drawing(engine, variances)
