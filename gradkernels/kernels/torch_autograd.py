"""torch, one backward pass of the mean loss over the full batch."""

from __future__ import annotations

from gradkernels.case import Case
from gradkernels.kernel import Compute, declare
from gradkernels.memory import ordinary
from gradkernels.problems import Problem
from gradkernels.problems.module.conversion import dense
from gradkernels.tree import each, leaves


def _refuses(case: Case) -> list[str]:
    if case.problem.randomness == "error":
        return []
    return [f"torch.autograd draws once for a batch, other numbers than randomness={case.problem.randomness!r} does"]


@declare("torch.autograd.gradient", refuses=_refuses)
def gradient(problem: Problem) -> Compute:
    """Build reverse mode through mean(loss)."""
    import torch

    def compute(theta, x, y):  # type: ignore[no-untyped-def]
        # Callers may be inside no_grad, as optimizer steps are, or inside inference_mode.
        with torch.inference_mode(False), torch.enable_grad():
            theta, x, y = each(ordinary, (theta, x, y))
            leaf = each(lambda one: one.detach().requires_grad_(), theta)
            # The backward pass may call the model again, where it saves memory by that (torch.utils.checkpoint).
            with problem.with_parameters(leaf):
                loss = problem.sample_losses(leaf, x, y).mean()
                parts = torch.autograd.grad(loss, leaves(leaf), allow_unused=True, materialize_grads=True)
        parts = tuple(map(dense, parts))
        return dict(zip(leaf, parts, strict=True)) if isinstance(leaf, dict) else parts[0]

    return compute
