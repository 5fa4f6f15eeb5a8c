"""What the hooks engine computes, recorded and compiled: no Python between the operations, neighbours fused."""

from __future__ import annotations

from collections.abc import Callable

import torch

from gradkernels.backend import Array
from gradkernels.engines.compiled.modules import compiled_write, detached, equal_chunks, memory_of_rows, run_in_chunks
from gradkernels.engines.hooks.accumulate.accumulators import RowSums, RowWriter, SquaredNorms
from gradkernels.engines.hooks.parameter_use import ParameterUse
from gradkernels.engines.hooks.precision import widen
from gradkernels.engines.hooks.quantities import Theta, clip_factors
from gradkernels.engines.recorded.functions import Passes
from gradkernels.engines.recorded.trace import untrained_tensors
from gradkernels.kernel import Compute
from gradkernels.memory import empty_torch
from gradkernels.problems.module.module_problem import ModuleProblem
from gradkernels.tree import Tree, count, each, take


def per_sample(problem: ModuleProblem, chunk: int) -> Compute:
    """Return a compute of the per-sample gradients `(n, *shape)` by parameter name."""
    recorded = Passes(problem)

    def write(theta: Theta, rest: Theta, x: Tree, y: Tree, out: Theta) -> None:
        fresh = {name: one.new_empty((count(y), *one.shape)) for name, one in theta.items()}
        with recorded.forward(theta, rest, x, y) as forward:
            consumer = RowWriter(forward.theta, fresh)
            forward.backward(consumer)
            for name, one in consumer.finish().items():
                out[name].copy_(one)

    return run_in_chunks(compiled_write(problem, write), problem, chunk, memory_of_rows)


def norms(problem: ModuleProblem, chunk: int) -> Compute:
    """Return a compute of the norms `(n,)`, from squares of rows that are not formed where algebra allows."""
    recorded = Passes(problem)

    def write(theta: Theta, rest: Theta, x: Tree, y: Tree, out: Array) -> None:
        with recorded.forward(theta, rest, x, y) as forward:
            squares = SquaredNorms(forward.theta, forward.shared, count(y), products=None)
            forward.backward(squares)
            out.copy_(squares.finish().sqrt())

    def memory(theta: Theta, n: int) -> Array:
        return empty_torch((n,), next(iter(theta.values())))

    return run_in_chunks(compiled_write(problem, write), problem, chunk, memory)


def clipped_sum(problem: ModuleProblem, chunk: int) -> Compute:
    """Sum of clipped rows, by book-keeping as in `gradkernels.engines.hooks.quantities`.

    `max_norm` is a tensor inside, so that another one compiles nothing; so is what of a chunk is counted, since a last
    one begins among the samples of the one before it.
    """
    recorded = Passes(problem)
    add = compiled_write(problem, _adding(recorded))

    def compute(theta: Theta, x: Tree, y: Tree, max_norm: float = 1.0) -> Theta:
        n = count(y)
        with torch.inference_mode(False), torch.no_grad():
            theta, rest, x, y = each(detached, (dict(theta), untrained_tensors(problem), x, y))
            total: Theta = each(lambda one: widen(torch.zeros_like(one)), theta)
            first = next(iter(total.values()))
            bound, done = first.new_tensor(max_norm), 0
            for part in equal_chunks(n, chunk):
                counted = torch.arange(part.start, part.stop, device=first.device) >= done
                add(theta, rest, take(x, part), take(y, part), total, counted, bound)
                done = part.stop
            return each(lambda one, of: one.to(of.dtype), total, theta)

    return compute


def _adding(recorded: Passes) -> Callable[..., None]:
    """Return `add(theta, rest, x, y, out, counted, max_norm)`: adds the clipped rows of what is counted to `out`."""

    def add(theta: Theta, rest: Theta, x: Tree, y: Tree, out: Theta, counted: Array, max_norm: Array) -> None:
        kept: list[tuple[ParameterUse, Array]] = []
        with recorded.forward(theta, rest, x, y) as forward:
            squares = SquaredNorms(forward.theta, forward.shared, count(y), products=None)

            def arrived(use: ParameterUse, g: Array) -> None:
                squares(use, g)
                kept.append((use, g))

            forward.backward(arrived)
            # What is not counted may be infinite, and infinity times zero is not zero.
            sums = RowSums(forward.theta, torch.where(counted, clip_factors(squares.finish().sqrt(), max_norm), 0.0))
            for use, g in kept:
                sums(use, g)
            for name, one in sums.finish().items():
                out[name].add_(one)

    return add
