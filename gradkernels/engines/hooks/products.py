"""Sums of rows with weights, and inner products of rows, each from one forward and one backward pass."""

from __future__ import annotations

import math
from typing import Any

import torch

from gradkernels.backend import Array
from gradkernels.engines.hooks.accumulate.accumulators import RowSums
from gradkernels.engines.hooks.accumulate.products import RowsAlong, SquaredNormsByParameter
from gradkernels.engines.hooks.accumulate.projections import RowProjections
from gradkernels.engines.hooks.accumulate.random_matrices import RandomMatrices
from gradkernels.engines.hooks.accumulate.weighted_sums import GroupSums, SeveralRowSums, zero_sums
from gradkernels.engines.hooks.engine import HooksEngine
from gradkernels.engines.hooks.errors import Unfit
from gradkernels.engines.hooks.precision import HALF_DTYPES, spread_nan
from gradkernels.engines.hooks.quantities import Theta, beyond_range, chunk_slices, drawing, rows_of_samples
from gradkernels.kernel import Compute
from gradkernels.problems.module.module_problem import ModuleProblem
from gradkernels.quantities.project import KIND, SEED, SIZE
from gradkernels.quantities.shared.groups import Groups
from gradkernels.quantity import QUANTITIES
from gradkernels.tree import Tree, count, each, take


def weighted_sum(problem: ModuleProblem, chunk: int) -> Compute:
    """Return a compute of weighted sums, by one backward pass: of the weighted losses where there is one weighting."""
    engine = HooksEngine(problem)

    def of_part(theta: Theta, x: Tree, y: Tree, weights: Array) -> Theta:
        with engine.forward(theta, x, y) as forward:
            if weights.ndim == 1:
                # A weight has too few digits in half precision, and what is multiplied by it may vanish.
                half = forward.losses.dtype in HALF_DTYPES
                sums = RowSums(forward.theta, weights if half else None)
                forward.backward(sums, None if half else weights)
                return sums.finish()
            several = SeveralRowSums(forward.theta, weights)
            forward.backward(several)
            return several.finish()

    def compute(theta: Theta, x: Tree, y: Tree, weights: Array) -> Theta:
        leading, total = tuple(weights.shape[1:]), dict[str, Array]()
        for part in chunk_slices(count(y) if math.prod(leading) else 0, chunk):
            more = of_part(theta, take(x, part), take(y, part), weights[part])
            total = {name: total[name] + one for name, one in more.items()} if total else more
        if not total:
            return {name: one.new_zeros((*leading, *one.shape)).detach() for name, one in theta.items()}
        return spread_nan({name: total[name].to(one.dtype) for name, one in theta.items()}, weights)

    return drawing(engine, compute)


def group_sums(problem: ModuleProblem, chunk: int) -> Compute:
    """Return a compute of the sums of rows by group: rows are formed of one parameter at a time, a few samples'."""
    engine = HooksEngine(problem)

    def compute(theta: Theta, x: Tree, y: Tree, groups: Any, count: int) -> Theta:
        sums, numbers = zero_sums(theta, count), torch.as_tensor(groups, device=next(iter(theta.values())).device)
        for part in chunk_slices(len(numbers), chunk):
            with engine.forward(theta, take(x, part), take(y, part)) as forward:
                consumer = GroupSums(forward.theta, numbers[part], sums)
                forward.backward(consumer)
                consumer.finish()
        return {name: sums[name].to(one.dtype) for name, one in theta.items()}

    return drawing(engine, compute)


def inner(problem: ModuleProblem, chunk: int) -> Compute:
    """Return a compute of the inner products with directions, layer by layer: g . (V a) for a linear map."""
    engine = HooksEngine(problem)

    def compute(theta: Theta, x: Tree, y: Tree, v: Theta) -> Array:
        first, widest = next(iter(theta)), max(theta.values(), key=torch.Tensor.element_size)
        several = v[first].ndim > theta[first].ndim
        directions = v if several else each(lambda one: one[None], v)
        found = [widest.new_zeros((0, len(directions[first]))).detach()]
        if not len(directions[first]):
            return widest.new_zeros((count(y), 0)).detach()
        for part in chunk_slices(count(y), chunk):
            with engine.forward(theta, take(x, part), take(y, part)) as forward:
                products = RowsAlong(forward.theta, directions, part.stop - part.start)
                forward.backward(products)
                found.append(products.finish())
        result = torch.cat(found).to(widest.dtype)
        return result if several else result[:, 0]

    return drawing(engine, compute)


def norms_by(problem: ModuleProblem, chunk: int) -> Compute:
    """Return a compute of the norms over groups of parameters, from squared norms over each of them."""
    engine = HooksEngine(problem)

    def of_part(theta: Theta, x: Tree, y: Tree, by: Groups) -> list[Array]:
        with engine.forward(theta, x, y) as forward:
            squares = SquaredNormsByParameter(forward.theta, forward.shared, count(y))
            forward.backward(squares)
            of_names = squares.finish()
        of_groups = [sum(of_names[name] for name in names) for _, names in by]
        norms = [one.sqrt() for one in of_groups]
        # Squares of one group may leave the range where those of all do not; a group that nothing used is zero.
        used = [one for one, (_, names) in zip(of_groups, by, strict=True) if squares.used.intersection(names)]
        doubtful = torch.stack([*map(beyond_range, used)]).any(0).nonzero().flatten() if used else ()
        if len(doubtful) and not engine.draws_each:
            rows = rows_of_samples(engine, theta, take(x, doubtful), take(y, doubtful))
            for one, exact in zip(norms, QUANTITIES["norms_by"].of(torch, rows, by=by).values(), strict=True):
                one[doubtful] = exact.to(one.dtype)
        return norms

    def compute(theta: Theta, x: Tree, y: Tree, by: Groups) -> Theta:
        parts = [of_part(theta, take(x, at), take(y, at), by) for at in chunk_slices(count(y), chunk)]
        found = {}
        for i, (group, names) in enumerate(by):
            widest = max((theta[name] for name in names), key=torch.Tensor.element_size)
            norms = [widest.new_zeros(0).detach(), *(part[i] for part in parts)]
            found[group] = torch.cat(norms).to(widest.dtype)
        return found

    return drawing(engine, compute)


def joined_batches(one: tuple[Tree, Tree], other: tuple[Tree, Tree]) -> Any:
    """Return two batches as one; an Unfit where they cannot be."""
    try:
        return each(lambda part, more: torch.cat([part, more]), one, other)
    except RuntimeError as error:
        raise Unfit(f"torch.hooks runs both batches as one, which these cannot be: {error}") from error


def project(problem: ModuleProblem, chunk: int) -> Compute:
    """Return a compute of random projections: for a linear map with factors (P b)(Q a)^T, else of rows in blocks."""
    engine = HooksEngine(problem)

    def compute(theta: Theta, x: Tree, y: Tree, size: int = SIZE, seed: int = SEED, kind: str = KIND) -> Array:
        widest = max(theta.values(), key=torch.Tensor.element_size)
        found, matrices = [widest.new_zeros((0, size)).detach()], RandomMatrices(theta, (size, seed, kind))
        for part in chunk_slices(count(y), chunk):
            with engine.forward(theta, take(x, part), take(y, part)) as forward:
                projections = RowProjections(forward.theta, part.stop - part.start, size, matrices)
                forward.backward(projections)
                found.append(projections.finish())
        return torch.cat(found).to(widest.dtype)

    return drawing(engine, compute)
