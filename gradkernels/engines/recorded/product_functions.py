"""What is recorded of weighted sums and products of rows: functions of tensors alone, each for one chunk."""

from __future__ import annotations

import operator
from functools import reduce

import torch

from gradkernels.backend import Array
from gradkernels.engines.hooks.accumulate.accumulators import RowSums
from gradkernels.engines.hooks.accumulate.products import RowGrams, RowsAlong, SquaredNormsByParameter
from gradkernels.engines.hooks.accumulate.projections import RowProjections
from gradkernels.engines.hooks.accumulate.random_matrices import RandomMatrices
from gradkernels.engines.hooks.accumulate.weighted_sums import GroupSums, SeveralRowSums, zero_sums
from gradkernels.engines.hooks.precision import HALF_DTYPES
from gradkernels.engines.hooks.quantities import Theta
from gradkernels.engines.recorded.functions import Passes, RecordedFunction
from gradkernels.engines.recorded.uses.doubts import Doubts
from gradkernels.engines.recorded.uses.recorded_uses import recording
from gradkernels.quantities.shared.groups import Groups
from gradkernels.tree import Tree
from gradkernels.tree import count as count_samples


def weighted_sum(passes: Passes) -> RecordedFunction:
    """Return a function that gives the sums of the rows times `weights` `(n,)` or `(n, k)`, in theta's order."""

    def function(theta: Theta, rest: Theta, x: Tree, y: Tree, weights: Array) -> list[Array]:
        if weights.ndim == 1 and passes.take_autograd(theta, weights):
            return passes.batch_gradient(theta, rest, x, y, weights)
        with passes.forward(theta, rest, x, y) as forward:
            if weights.ndim == 1:
                half = forward.losses.dtype in HALF_DTYPES  # as in the hooks: a weight has too few digits there
                sums = RowSums(forward.theta, weights if half else None)
                forward.backward(recording(sums, Doubts()), None if half else weights)
                return [*sums.finish().values()]
            several = SeveralRowSums(forward.theta, weights)
            forward.backward(recording(several, Doubts()))
            return [*several.finish().values()]

    return function


def group_sums(passes: Passes, count: int) -> RecordedFunction:
    """Return a function that gives the sums of the rows by group, `count` of them, in theta's order."""

    def function(theta: Theta, rest: Theta, x: Tree, y: Tree, groups: Array) -> list[Array]:
        with passes.forward(theta, rest, x, y) as forward:
            sums = GroupSums(forward.theta, groups, zero_sums(theta, count))
            forward.backward(recording(sums, Doubts()))
            return [*sums.finish().values()]

    return function


def inner(passes: Passes) -> RecordedFunction:
    """Return a function that gives the inner products with directions, one or several in front of each other."""

    def function(theta: Theta, rest: Theta, x: Tree, y: Tree, *v: Array) -> list[Array]:
        several = v[0].ndim > next(iter(theta.values())).ndim
        directions = {name: one if several else one[None] for name, one in zip(theta, v, strict=True)}
        with passes.forward(theta, rest, x, y) as forward:
            products = RowsAlong(forward.theta, directions, count_samples(y))
            forward.backward(recording(products, Doubts()))
            found = products.finish()
            return [found if several else found[:, 0]]

    return function


def gram(passes: Passes, by: Groups) -> RecordedFunction:
    """Return a function that gives the inner products of each two rows over each group, and whose are in doubt.

    Doubts are `(groups, n)`: what is lost in one group may be all right in the others.
    """

    def function(theta: Theta, rest: Theta, x: Tree, y: Tree) -> list[Array]:
        with passes.forward(theta, rest, x, y) as forward:
            n, doubts = count_samples(y), Doubts()
            grams = RowGrams(forward.theta, forward.shared, n, by)
            forward.backward(recording(grams, doubts))
            found, used = grams.finish(), grams.totals
            each = [found[group] for group, _ in by]
            every = doubts.all(n, each[0])
            lost = [
                every | doubts.lost(found[group].diagonal()) if group in used else torch.zeros_like(every)
                for group, _ in by
            ]
            return [*each, torch.stack(lost)]

    return function


def norms_by(passes: Passes, by: Groups) -> RecordedFunction:
    """Return a function that gives the norms over each group of parameters, and which samples' are in doubt."""

    def function(theta: Theta, rest: Theta, x: Tree, y: Tree) -> list[Array]:
        with passes.forward(theta, rest, x, y) as forward:
            n, doubts = count_samples(y), Doubts()
            squares = SquaredNormsByParameter(forward.theta, forward.shared, n, doubts.of_products)
            forward.backward(recording(squares, doubts))
            of_names = squares.finish()
            of_groups = [reduce(operator.add, [of_names[name] for name in names]) for _, names in by]
            used = [one for one, (_, names) in zip(of_groups, by, strict=True) if squares.used.intersection(names)]
            for one in used if not passes.engine.draws_each else ():
                doubts.look_at(one)
            return [*torch._foreach_sqrt(of_groups), doubts.all(n, of_groups[0])]

    return function


def project(passes: Passes, size: int, kind: str) -> RecordedFunction:
    """Return a function that gives the projections of the rows by matrices that it is given.

    Args:
        passes: Of the model.
        size: Dimensions.
        kind: `gaussian` or `factored`.
    """

    def function(theta: Theta, rest: Theta, x: Tree, y: Tree, *given: Array) -> list[Array]:
        with passes.forward(theta, rest, x, y) as forward:
            matrices = RandomMatrices(forward.theta, (size, 0, kind), given)
            projections = RowProjections(forward.theta, count_samples(y), size, matrices)
            forward.backward(recording(projections, Doubts()))
            return [projections.finish()]

    return function
