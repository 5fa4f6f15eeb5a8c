"""torch.autograd: the Jacobian of the losses of a few samples, all of whose rows are asked for at once."""

from __future__ import annotations

import warnings
from typing import Any

from gradkernels.backend import Array
from gradkernels.case import Case
from gradkernels.kernel import Compute, declare
from gradkernels.memory import empty_torch, ordinary
from gradkernels.problems.module.conversion import dense
from gradkernels.problems.module.module_problem import ModuleProblem
from gradkernels.problems.module.structure import Parameters
from gradkernels.tree import Tree, count, each, take


def _refuses(case: Case) -> list[str]:
    problem: Any = case.problem
    if problem.randomness != "same":
        return []
    return ["torch.jacobian draws random numbers for a batch, not the same for every sample; use torch.loop"]


@declare("torch.jacobian.per_sample", problems=ModuleProblem, out=True, refuses=_refuses)
def per_sample(problem: ModuleProblem, chunk: int = 8) -> Compute:
    """Build one forward pass of `chunk` samples, then `chunk` backward passes through all of it, under one vmap.

    The work is that of n * chunk backward passes of one sample, so that few samples at a time are best.
    """
    import torch

    def compute(theta: Parameters, x: Tree, y: Tree, out: Any = None) -> Any:
        with torch.inference_mode(False), torch.enable_grad(), warnings.catch_warnings(), problem.seeded():
            warnings.filterwarnings("ignore", "There is a performance drop", UserWarning)
            theta, x, y = each(lambda tensor: ordinary(tensor).detach(), (dict(theta), x, y))
            leaf = each(lambda tensor: tensor.detach().requires_grad_(), theta)
            rows = each(lambda tensor: empty_torch((count(y), *tensor.shape), tensor), theta) if out is None else out
            for start in range(0, count(y), chunk):
                part = slice(start, start + chunk)
                losses = problem.sample_losses(leaf, take(x, part), take(y, part))
                for name, found in _jacobian(losses, leaf).items():
                    rows[name][part] = found
            return rows

    return compute


def _jacobian(losses: Array, theta: Parameters) -> dict[str, Array]:
    """Return the derivatives of each of the losses `(n,)` by each parameter, `(n, *shape)`."""
    import torch

    every = torch.eye(len(losses), dtype=losses.dtype, device=losses.device)
    found = torch.autograd.grad(
        losses, list(theta.values()), every, is_grads_batched=True, allow_unused=True, materialize_grads=True
    )
    return dict(zip(theta, map(dense, found), strict=True))
