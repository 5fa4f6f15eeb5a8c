"""torch.compile of what the hooks compute: one forward pass, one backward pass and what is made of them, fused.

Compiled for each shape that it meets, which takes tens of seconds; `chunk` samples at a time.
"""

from __future__ import annotations

from gradkernels.engines.compiled.available import refuses
from gradkernels.kernel import Compute, declare
from gradkernels.problems.module.module_problem import ModuleProblem


@declare(
    "torch.compiled_hooks.per_sample",
    problems=ModuleProblem,
    out=True,
    refuses=refuses,
    compiles=True,
    chunks=(16, 256),
)
def per_sample(problem: ModuleProblem, chunk: int = 64) -> Compute:
    """Build outer products of activations and output gradients, written into their place."""
    from gradkernels.engines.compiled import hooks

    return hooks.per_sample(problem, chunk)


@declare(
    "torch.compiled_hooks.norms",
    problems=ModuleProblem,
    out=True,
    refuses=refuses,
    compiles=True,
    chunks=(16, 256),
)
def norms(problem: ModuleProblem, chunk: int = 64) -> Compute:
    """Build norms without rows, where the layer's algebra allows."""
    from gradkernels.engines.compiled import hooks

    return hooks.norms(problem, chunk)


@declare("torch.compiled_hooks.clipped_sum", problems=ModuleProblem, refuses=refuses, compiles=True, chunks=(16, 256))
def clipped_sum(problem: ModuleProblem, chunk: int = 64) -> Compute:
    """Build book-keeping: no rows and no second backward pass."""
    from gradkernels.engines.compiled import hooks

    return hooks.clipped_sum(problem, chunk)
