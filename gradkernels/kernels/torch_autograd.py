"""torch, one backward pass of the mean loss over the full batch."""

from __future__ import annotations

from gradkernels.kernel import Compute, declare
from gradkernels.memory import ordinary
from gradkernels.problems import Problem
from gradkernels.tree import each


@declare("torch.autograd.gradient")
def gradient(problem: Problem) -> Compute:
    """Reverse mode through mean(loss)."""
    import torch

    def compute(theta, x, y):  # type: ignore[no-untyped-def]
        # Callers may be inside no_grad, as optimizer steps are, or inside inference_mode.
        with torch.inference_mode(False), torch.enable_grad():
            leaf = ordinary(theta).detach().requires_grad_()
            (total,) = torch.autograd.grad(problem.loss(leaf, ordinary(x), each(ordinary, y)).mean(), leaf)
        return total

    return compute
