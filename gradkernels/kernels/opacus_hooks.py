"""Opacus (Yousefpour et al. 2021): per-sample gradients from hooks on layers, by rules, by expanded weights or by vmap.

Each takes the sum of the losses and `loss_reduction="sum"`, so that nothing is scaled by n.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from gradkernels.backend import Array
from gradkernels.engines.peers.model_copy import ModelCopies, PeerLibrary
from gradkernels.engines.peers.opacus import (
    clear_results,
    refuses,
    refuses_expanded,
    refuses_rules,
    replace_recurrent,
    set_training,
)
from gradkernels.engines.peers.results import collect_results, zero_results
from gradkernels.kernel import Compute, Refuses, declare
from gradkernels.problems.module.module_problem import ModuleProblem
from gradkernels.problems.module.structure import Module, Parameters
from gradkernels.tree import Tree, count


@declare("opacus.hooks.per_sample", problems=ModuleProblem, refuses=refuses_rules)
def hooks(problem: ModuleProblem) -> Compute:
    """Build Opacus' rules for layers, with vmap for layers that have none: `grad_sample_mode="hooks"`."""
    return _rows(problem, "opacus.hooks", "hooks", refuses_rules)


@declare("opacus.functorch.per_sample", problems=ModuleProblem, refuses=refuses)
def functorch(problem: ModuleProblem) -> Compute:
    """Build the gradient of each layer by itself under vmap: `grad_sample_mode="functorch"`."""
    return _rows(problem, "opacus.functorch", "functorch", refuses)


@declare("opacus.ew.per_sample", problems=ModuleProblem, refuses=refuses_expanded)
def expanded(problem: ModuleProblem) -> Compute:
    """Build expanded weights of torch: `grad_sample_mode="ew"`."""
    return _rows(problem, "opacus.ew", "ew", refuses_expanded)


def _rows(problem: ModuleProblem, name: str, mode: str, refuses: Refuses) -> Compute:
    copies = ModelCopies(
        problem, PeerLibrary(name, partial(_wrapped, mode=mode), clear_results, replace_recurrent, refuses)
    )

    def compute(theta: Parameters, x: Tree, y: Tree) -> dict[str, Array]:
        if (n := count(y)) == 0:
            return zero_results(theta, 0)
        with copies.borrow(theta, x, y) as (copied, x, y):
            copied.losses(x, y).sum().backward()
            return collect_results(copied, "grad_sample", n)

    return compute


def _wrapped(model: Module, mode: str) -> Module:
    from opacus.grad_sample.utils import get_gsm_class

    options: dict[str, Any] = {"force_functorch": True} if mode == "functorch" else {}
    return get_gsm_class(mode)(set_training(model), loss_reduction="sum", **options)
