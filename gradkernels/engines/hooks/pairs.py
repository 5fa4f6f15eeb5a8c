"""Inner products of each two samples: all in one pass, or two blocks of samples at a time where memory is short."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from gradkernels.backend import Array
from gradkernels.engines.hooks.accumulate.products import RowGrams
from gradkernels.engines.hooks.engine import HooksEngine
from gradkernels.engines.hooks.errors import Unfit
from gradkernels.engines.hooks.products import joined_batches
from gradkernels.engines.hooks.quantities import Theta, chunk_slices, drawing
from gradkernels.kernel import Compute
from gradkernels.problems.module.module_problem import ModuleProblem
from gradkernels.quantities.shared.groups import WHOLE, Groups, whole_or_groups
from gradkernels.tree import Tree, count, take

OtherBatch = tuple[Tree, Tree]


def gram(problem: ModuleProblem, chunk: int) -> Compute:
    """Return a compute of the inner products of each two samples: (g_i . g_j)(a_i . a_j) for a linear map."""
    engine = HooksEngine(problem)

    def compute(theta: Theta, x: Tree, y: Tree, other: OtherBatch | None = None) -> Array:
        return _grams(engine, chunk, (theta, x, y), other, None)[WHOLE]

    return drawing(engine, compute)


def gram_by(problem: ModuleProblem, chunk: int) -> Compute:
    """Return a compute of the inner products over groups of parameters, at most `chunk` samples at a time."""
    engine = HooksEngine(problem)

    def compute(theta: Theta, x: Tree, y: Tree, by: Groups, other: OtherBatch | None = None) -> Theta:
        return _grams(engine, chunk, (theta, x, y), other, by)

    return drawing(engine, compute)


def _grams(
    engine: HooksEngine, chunk: int, arrays: tuple[Theta, Tree, Tree], other: OtherBatch | None, by: Groups | None
) -> Theta:
    """Return the inner products by group, in the widest dtype of its parameters; without groups those of all."""
    theta, *one = arrays
    sizes, groups = (count(one[1]), count(one[1] if other is None else other[1])), whole_or_groups(by, theta)
    like = {group: max((theta[name] for name in names), key=torch.Tensor.element_size) for group, names in groups}
    if other is not None and engine.draws_each:
        raise Unfit("with other=, torch.hooks draws random numbers for both batches in a row; use torch.loop")
    if 0 in sizes:
        return {group: part.new_zeros(sizes).detach() for group, part in like.items()}
    of = _products(engine, theta, groups)
    if sum(sizes) // (2 if other is None else 1) <= chunk:  # all at once
        found = of(*one) if other is None else _between(of, (one[0], one[1]), other)
        return {group: found[group].to(part.dtype).contiguous() for group, part in like.items()}
    if engine.draws_each:
        raise Unfit("in blocks of samples torch.hooks draws other random numbers for each block; use torch.loop")
    result = {group: part.new_empty(sizes).detach() for group, part in like.items()}
    for at, to, block in _blocks((one[0], one[1]), other, chunk, of):
        for group, products in block.items():
            result[group][at, to] = products
    return result


def _products(engine: HooksEngine, theta: Theta, groups: Groups) -> Callable[[Tree, Tree], Theta]:
    """Return a function of samples that gives the products of each two of them by group."""

    def of(x: Tree, y: Tree) -> Theta:
        with engine.forward(theta, x, y) as forward:
            grams = RowGrams(forward.theta, forward.shared, count(y), groups)
            forward.backward(grams)
            return grams.finish()

    return of


def _between(of: Callable[[Tree, Tree], Theta], one: OtherBatch, other: OtherBatch) -> Theta:
    """Return the products of samples with others, from those of all."""
    n = count(one[1])
    return {group: products[:n, n:] for group, products in of(*joined_batches(one, other)).items()}


def _blocks(
    one: OtherBatch, other: OtherBatch | None, chunk: int, of: Callable[[Tree, Tree], Theta]
) -> Iterator[tuple[slice, slice, Theta]]:
    """Yield places and products of blocks of samples that are together at most `chunk`, or two samples.

    Args:
        one: Samples of the first axis.
        other: Those of the second; None for the same.
        chunk: Samples at a time.
        of: Gives the products of each two of some samples.
    """
    if other is not None:
        columns = max(1, min(count(other[1]), chunk // 2))
        for at in chunk_slices(count(one[1]), max(1, chunk - columns)):
            for to in chunk_slices(count(other[1]), columns):
                yield at, to, _between(of, take(one, at), take(other, to))
        return
    parts = [*chunk_slices(count(one[1]), max(1, chunk // 2))]
    for i, at in enumerate(parts):
        for to in parts[i + 1 :]:
            n, every = at.stop - at.start, of(*joined_batches(take(one, at), take(one, to)))
            yield at, to, {group: products[:n, n:] for group, products in every.items()}
            yield to, at, {group: products[n:, :n] for group, products in every.items()}
            if to is parts[i + 1]:
                yield at, at, {group: products[:n, :n] for group, products in every.items()}
            if to is parts[-1] and i + 2 == len(parts):
                yield to, to, {group: products[n:, n:] for group, products in every.items()}
