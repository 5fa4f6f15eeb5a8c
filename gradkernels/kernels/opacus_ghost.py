"""Opacus' ghost clipping (Li et al. 2022): norms without rows, and the clipped sum by a second, weighted pass."""

from __future__ import annotations

from typing import Any

from gradkernels.backend import Array
from gradkernels.engines.peers.model_copy import ModelCopies, ModelCopy, PeerLibrary
from gradkernels.engines.peers.opacus import clear_results, refuses_ghost, replace_recurrent, set_training
from gradkernels.engines.peers.results import collect_gradients, zero_results
from gradkernels.kernel import Compute, declare
from gradkernels.problems.module.module_problem import ModuleProblem
from gradkernels.problems.module.structure import Module, Parameters
from gradkernels.tree import Tree, count


@declare("opacus.ghost.norms", problems=ModuleProblem, refuses=refuses_ghost)
def norms(problem: ModuleProblem) -> Compute:
    """Build one backward pass in which each layer leaves the norms of its parameters' rows."""
    copies = _copies(problem)

    def compute(theta: Parameters, x: Tree, y: Tree) -> Array:
        if (n := count(y)) == 0:
            return next(iter(theta.values())).new_zeros(0).detach()
        with copies.borrow(theta, x, y) as (copied, x, y):
            copied.losses(x, y).sum().backward()
            return _norms(copied, n)

    return compute


@declare("opacus.ghost.clipped_sum", problems=ModuleProblem, refuses=refuses_ghost)
def clipped_sum(problem: ModuleProblem) -> Compute:
    """Build two backward passes through one forward pass: norms, then the losses weighted by the factors.

    Opacus adds 1e-6 to the norms, and so clips a little more; here the factors are min(1, max_norm / norm).
    """
    copies = _copies(problem)

    def compute(theta: Parameters, x: Tree, y: Tree, max_norm: float = 1.0) -> dict[str, Array]:
        if (n := count(y)) == 0:
            return zero_results(theta)
        with copies.borrow(theta, x, y) as (copied, x, y):
            losses = copied.losses(x, y)
            losses.sum().backward(retain_graph=True)
            factors = 1 / (_norms(copied, n) / max_norm).clip(min=1.0)
            copied.problem.model.zero_grad(set_to_none=True)
            _weighted(copied.problem.model, (factors * losses).sum())
            sums = collect_gradients(copied)
            if factors.isnan().any():  # NaN times zero is NaN, of what the model did not use as well
                return {name: float("nan") * one for name, one in sums.items()}
            return sums

    return compute


def _weighted(model: Any, loss: Array) -> None:
    model.disable_hooks()
    try:
        loss.backward()
    finally:
        model.enable_hooks()


def _norms(copied: ModelCopy, n: int) -> Array:
    """Return norms `(n,)` over all parameters, those that the model did not use counting as zero."""
    for name, parameter in copied.parameters.items():
        if not hasattr(parameter, "_norm_sample"):
            if parameter._forward_counter:  # as for a Linear with more than three axes
                raise NotImplementedError(f"Opacus left no norms on {name}")
            parameter._norm_sample = parameter.new_zeros(n)
    return copied.problem.model.get_norm_sample().detach()


def _copies(problem: ModuleProblem) -> ModelCopies:
    return ModelCopies(problem, PeerLibrary("opacus.ghost", _wrapped, clear_results, replace_recurrent, refuses_ghost))


def _wrapped(model: Module) -> Module:
    from opacus.grad_sample import GradSampleModuleFastGradientClipping

    return GradSampleModuleFastGradientClipping(set_training(model), loss_reduction="sum", use_ghost_clipping=True)
