"""BackPACK (Dangel, Kunstner & Hennig 2020): rows, norms and variances from the backward pass of an extended model.

Each differentiates the sum of the losses, so that the 1/n of a mean, which BackPACK would keep, is never there.
"""

from __future__ import annotations

from typing import Any

from gradkernels.backend import Array
from gradkernels.engines.peers.backpack import library, refuses, refuses_norms, refuses_variance
from gradkernels.engines.peers.model_copy import ModelCopies, ModelCopy
from gradkernels.engines.peers.results import collect_gradients, collect_results, zero_results
from gradkernels.kernel import Compute, declare
from gradkernels.problems.module.module_problem import ModuleProblem
from gradkernels.problems.module.structure import Parameters
from gradkernels.quantity import Moments
from gradkernels.tree import Tree, count


@declare("backpack.batch.per_sample", problems=ModuleProblem, refuses=refuses)
def per_sample(problem: ModuleProblem) -> Compute:
    """Build BackPACK's `BatchGrad`."""
    from backpack.extensions import BatchGrad

    copies, extension = ModelCopies(problem, library("backpack.batch", "grad_batch", refuses)), BatchGrad()

    def compute(theta: Parameters, x: Tree, y: Tree) -> dict[str, Array]:
        if (n := count(y)) == 0:
            return zero_results(theta, 0)
        with copies.borrow(theta, x, y) as (copied, x, y):
            _backward(copied, extension, x, y)
            return collect_results(copied, "grad_batch", n)

    return compute


@declare("backpack.l2.norms", problems=ModuleProblem, refuses=refuses_norms)
def norms(problem: ModuleProblem) -> Compute:
    """Build BackPACK's `BatchL2Grad`, the squared norm of each parameter's rows; summed, and the root taken."""
    from backpack.extensions import BatchL2Grad

    copies, extension = ModelCopies(problem, library("backpack.l2", "batch_l2", refuses_norms)), BatchL2Grad()

    def compute(theta: Parameters, x: Tree, y: Tree) -> Array:
        total = next(iter(theta.values())).new_zeros(count(y)).detach()
        if len(total) == 0:
            return total
        with copies.borrow(theta, x, y) as (copied, x, y):
            _backward(copied, extension, x, y)
            for parameter in copied.parameters.values():
                total = total + getattr(parameter, "batch_l2", 0)
            return total.sqrt().detach()

    return compute


@declare("backpack.variance.moments", problems=ModuleProblem, refuses=refuses_variance)
def moments(problem: ModuleProblem) -> Compute:
    """Build BackPACK's `Variance`, the mean of squares less the squared mean, beside the gradient of the same pass."""
    from backpack.extensions import Variance

    copies, extension = ModelCopies(problem, library("backpack.variance", "variance", refuses_variance)), Variance()

    def compute(theta: Parameters, x: Tree, y: Tree) -> Moments[Any]:
        with copies.borrow(theta, x, y) as (copied, x, y):
            _backward(copied, extension, x, y)
            mean = {name: gradient / count(y) for name, gradient in collect_gradients(copied).items()}
            return Moments(mean, collect_results(copied, "variance"))

    return compute


def _backward(copied: ModelCopy, extension: Any, x: Tree, y: Tree) -> None:
    from backpack import backpack

    losses = copied.losses(x, y)
    with backpack(extension):
        losses.sum().backward()
