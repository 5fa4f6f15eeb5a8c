"""torch, one backward pass per sample: what works for any loss, and what everything else must equal."""

from __future__ import annotations

from contextlib import nullcontext

from gradkernels.kernel import Compute, declare
from gradkernels.memory import empty_torch, ordinary, store
from gradkernels.problems import Problem
from gradkernels.problems.module.conversion import dense
from gradkernels.tree import count, each, leaves, take


@declare("torch.loop.per_sample", loops=True, out=True)
def per_sample(problem: Problem) -> Compute:
    """Build row i as the gradient of sample i's own loss."""
    import torch

    # A draw that is the same for all samples starts anew for each of them.
    again = problem.seeded if problem.randomness == "same" else nullcontext

    def compute(theta, x, y, out=None):  # type: ignore[no-untyped-def]
        # Callers may be inside no_grad, as optimizer steps are, or inside inference_mode.
        with torch.inference_mode(False), torch.enable_grad():
            rows = each(lambda one: empty_torch((count(y), *one.shape), one), theta) if out is None else out
            theta, x, y = each(ordinary, (theta, x, y))
            leaf = each(lambda one: one.detach().requires_grad_(), theta)
            # The backward pass may call the model again, where it saves memory by that (torch.utils.checkpoint).
            with problem.seeded(), problem.with_parameters(leaf):
                for i in range(count(y)):
                    with again():
                        loss = problem.loss(leaf, take(x, i), take(y, i))
                        parts = torch.autograd.grad(loss, leaves(leaf), allow_unused=True, materialize_grads=True)
                    for row, part in zip(leaves(rows), parts, strict=True):
                        store(row, i, dense(part))
        return rows

    return compute
