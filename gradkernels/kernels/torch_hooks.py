"""torch, one forward and one backward pass: per-sample gradients of any module from what passes its layers."""

from __future__ import annotations

from gradkernels.kernel import Compute, declare
from gradkernels.problems.module import ModuleProblem

CHUNK = 1 << 20


@declare("torch.hooks.per_sample", problems=ModuleProblem, out=True)
def per_sample(problem: ModuleProblem, chunk: int = CHUNK) -> Compute:
    """Outer products of activations and output gradients, written into their place; `chunk` samples at a time."""
    from gradkernels.hooks import computes

    return computes.per_sample(problem, chunk)


@declare("torch.hooks.norms", problems=ModuleProblem, out=True)
def norms(problem: ModuleProblem, chunk: int = CHUNK) -> Compute:
    """Norms without rows, where the layer's algebra allows."""
    from gradkernels.hooks import computes

    return computes.norms(problem, chunk)
