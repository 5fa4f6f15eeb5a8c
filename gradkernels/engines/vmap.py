"""Rows from `torch.func`: vmap of the gradient of one sample's loss, over the whole of a problem."""

from __future__ import annotations

import math
import warnings
from contextlib import nullcontext

from gradkernels.memory import empty_torch, ordinary, store
from gradkernels.problems import Problem
from gradkernels.problems.module.module_problem import ModuleProblem
from gradkernels.problems.module.outputs import outputs_of
from gradkernels.quantities.shared.outputs import output_axes
from gradkernels.quantity import QUANTITIES
from gradkernels.tree import Tree, count, each, leaves, take

CHUNK_BYTES = 2**26
INTERMEDIATE = 8  # bytes per byte of a sample, for what lies between it and its loss


def per_sample(problem: Problem, chunk: int | None):  # type: ignore[no-untyped-def]
    """Return `compute(theta, x, y, out)` of the per-sample gradients, each chunk written into its place.

    Args:
        problem: What is differentiated.
        chunk: Samples at a time; None for what keeps rows and what is between within about 64 MiB.
    """
    import torch
    from torch.func import grad, vmap

    gradients = vmap(grad(problem.loss), in_dims=(None, 0, 0), randomness=problem.randomness)

    @torch.inference_mode(False)
    @torch.no_grad()  # inputs that require gradients must not make the result a part of their graph
    def compute(theta, x, y, out=None):  # type: ignore[no-untyped-def]
        theta, x, y = each(ordinary, (theta, x, y))
        n = count(y)
        rows = each(lambda one: empty_torch((n, *one.shape), one), theta) if out is None else out
        size = chunk or fitting_chunk(theta, x, n)
        # A draw that is the same for all samples starts anew with each chunk.
        again, whole = (problem.seeded, nullcontext) if problem.randomness == "same" else (nullcontext, problem.seeded)
        with whole():
            for start in range(0, n, size):
                part = slice(start, start + size)
                with again():
                    found = gradients(theta, take(x, part), take(y, part))
                for row, one in zip(leaves(rows), leaves(found), strict=True):
                    store(row, part, one)
        return rows

    return compute


def jacobian(problem: ModuleProblem, chunk: int | None):  # type: ignore[no-untyped-def]
    """Return `compute(theta, x, y, out)` of the gradients of all outputs of each sample.

    Args:
        problem: Of outputs.
        chunk: Samples at a time; None for what keeps rows and what is between within about 64 MiB.
    """
    import torch
    from torch.func import jacrev, vmap

    def outputs(theta, x):  # type: ignore[no-untyped-def]
        with problem.with_parameters(theta):
            return outputs_of(problem, problem.output(each(lambda array: array[None], x)))[0]

    gradients = vmap(jacrev(outputs), in_dims=(None, 0), randomness=problem.randomness)

    @torch.inference_mode(False)
    @torch.no_grad()
    def compute(theta, x, y, out=None):  # type: ignore[no-untyped-def]
        theta, x = each(ordinary, (theta, x))
        n, axes = count(y), output_axes(QUANTITIES["jacobian"], y)["outputs"]
        rows = each(lambda one: empty_torch((n, *axes, *one.shape), one), theta) if out is None else out
        size = chunk or max(1, fitting_chunk(theta, x, n) // max(1, math.prod(axes)))
        again, whole = (problem.seeded, nullcontext) if problem.randomness == "same" else (nullcontext, problem.seeded)
        with whole(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "There is a performance drop", UserWarning)
            for start in range(0, n, size):
                part = slice(start, start + size)
                with again():
                    found = gradients(theta, take(x, part))
                for row, one in zip(leaves(rows), leaves(found), strict=True):
                    store(row, part, one)
        return rows

    return compute


def fitting_chunk(theta: Tree, x: Tree, n: int) -> int:
    """Return how many samples' rows and intermediate results take about 64 MiB, at least one.

    Args:
        theta: Parameters, of which each sample has a row.
        x: Inputs, samples first.
        n: Number of samples.
    """
    of_row = sum(one.numel() * one.element_size() for one in leaves(theta))
    of_sample = sum(one.numel() * one.element_size() for one in leaves(x)) // max(n, 1)
    return max(1, CHUNK_BYTES // (of_row + INTERMEDIATE * of_sample))
