"""torch, one backward pass of the mean loss over the full batch."""

from __future__ import annotations

from gradkernels.kernel import Compute, declare
from gradkernels.problems import Problem


@declare("torch.autograd.gradient")
def gradient(problem: Problem) -> Compute:
    """Reverse mode through mean(loss)."""
    import torch

    def compute(theta, x, y):  # type: ignore[no-untyped-def]
        leaf = theta.detach().requires_grad_()
        with torch.enable_grad():  # callers may be inside no_grad, as optimizer steps are
            (total,) = torch.autograd.grad(problem.loss(leaf, x, y).mean(), leaf)
        return total

    return compute
