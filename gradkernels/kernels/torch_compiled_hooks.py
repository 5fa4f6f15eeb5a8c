"""torch.compile of what the hooks compute: one forward pass, one backward pass and the rows, fused."""

from __future__ import annotations

from gradkernels.compiled.available import refuses
from gradkernels.kernel import Compute, declare
from gradkernels.problems.module import ModuleProblem


@declare("torch.compiled_hooks.per_sample", problems=ModuleProblem, out=True, refuses=refuses, compiles=True)
def per_sample(problem: ModuleProblem, chunk: int = 64) -> Compute:
    """Rows of `chunk` samples at a time, compiled for each shape that it meets: tens of seconds."""
    from gradkernels.compiled.modules import hooks_rows

    return hooks_rows(problem, chunk)
