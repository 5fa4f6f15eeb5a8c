"""torch, one backward pass per sample: what works for any loss, and what everything else must equal."""

from __future__ import annotations

from gradkernels.kernel import Compute, declare
from gradkernels.memory import empty_torch, ordinary
from gradkernels.problems import Problem
from gradkernels.tree import each, take


@declare("torch.loop.per_sample", loops=True, out=True)
def per_sample(problem: Problem) -> Compute:
    """Row i is the gradient of sample i's own loss."""
    import torch

    def compute(theta, x, y, out=None):  # type: ignore[no-untyped-def]
        # Callers may be inside no_grad, as optimizer steps are, or inside inference_mode.
        with torch.inference_mode(False), torch.enable_grad():
            rows = empty_torch((len(x), *theta.shape), theta) if out is None else out
            x, y = ordinary(x), each(ordinary, y)
            leaf = ordinary(theta).detach().requires_grad_()
            for i in range(len(x)):
                (rows[i],) = torch.autograd.grad(problem.loss(leaf, x[i], take(y, i)), leaf)
        return rows

    return compute
