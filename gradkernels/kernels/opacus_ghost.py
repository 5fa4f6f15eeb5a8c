"""Opacus' ghost clipping (Li et al. 2022): norms without rows, and the clipped sum by a second, weighted pass."""

from __future__ import annotations

from typing import Any

from gradkernels.backend import Array
from gradkernels.engines.peers.model_copy import Library, Twin, Twins, gradients, nothing
from gradkernels.engines.peers.opacus import forget, recording, refuses_ghost, replaces
from gradkernels.kernel import Compute, declare
from gradkernels.problems.module.module_problem import ModuleProblem
from gradkernels.problems.module.structure import Module, Parameters
from gradkernels.tree import Tree, count


@declare("opacus.ghost.norms", problems=ModuleProblem, refuses=refuses_ghost)
def norms(problem: ModuleProblem) -> Compute:
    """One backward pass in which each layer leaves the norms of its parameters' rows."""
    twins = _twins(problem)

    def compute(theta: Parameters, x: Tree, y: Tree) -> Array:
        if (n := count(y)) == 0:
            return next(iter(theta.values())).new_zeros(0).detach()
        with twins.lent(theta, x, y) as (twin, x, y):
            twin.losses(x, y).sum().backward()
            return _norms(twin, n)

    return compute


@declare("opacus.ghost.clipped_sum", problems=ModuleProblem, refuses=refuses_ghost)
def clipped_sum(problem: ModuleProblem) -> Compute:
    """Two backward passes through one forward pass: norms, then the losses weighted by the factors.

    Opacus adds 1e-6 to the norms, and so clips a little more; here the factors are min(1, max_norm / norm).
    """
    twins = _twins(problem)

    def compute(theta: Parameters, x: Tree, y: Tree, max_norm: float = 1.0) -> dict[str, Array]:
        if (n := count(y)) == 0:
            return nothing(theta)
        with twins.lent(theta, x, y) as (twin, x, y):
            losses = twin.losses(x, y)
            losses.sum().backward(retain_graph=True)
            factors = 1 / (_norms(twin, n) / max_norm).clip(min=1.0)
            twin.problem.model.zero_grad(set_to_none=True)
            _weighted(twin.problem.model, (factors * losses).sum())
            return gradients(twin)

    return compute


def _weighted(model: Any, loss: Array) -> None:
    model.disable_hooks()
    try:
        loss.backward()
    finally:
        model.enable_hooks()


def _norms(twin: Twin, n: int) -> Array:
    """Norms `(n,)` over all parameters, those that the model did not use counting as zero."""
    for name, parameter in twin.parameters.items():
        if not hasattr(parameter, "_norm_sample"):
            if parameter._forward_counter:  # as for a Linear with more than three axes
                raise NotImplementedError(f"Opacus left no norms on {name}")
            parameter._norm_sample = parameter.new_zeros(n)
    return twin.problem.model.get_norm_sample().detach()


def _twins(problem: ModuleProblem) -> Twins:
    return Twins(problem, Library("opacus.ghost", _wrapped, forget, replaces, refuses_ghost))


def _wrapped(model: Module) -> Module:
    from opacus.grad_sample import GradSampleModuleFastGradientClipping

    return GradSampleModuleFastGradientClipping(recording(model), loss_reduction="sum", use_ghost_clipping=True)
