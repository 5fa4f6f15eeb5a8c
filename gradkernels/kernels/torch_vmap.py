"""torch.func: vmap of the gradient of one sample's loss, in chunks."""

from __future__ import annotations

from gradkernels.engines import vmap
from gradkernels.kernel import Compute, declare
from gradkernels.problems import BlackBox, Problem
from gradkernels.problems.module.module_problem import ModuleProblem

CHUNK = 16384


@declare("torch.vmap.per_sample", out=True, chunks=(16, 64))
def per_sample(problem: Problem, chunk: int = CHUNK) -> Compute:
    """Build rows from vmap(grad(loss)), `chunk` samples at a time, each chunk written into its place.

    Unless it is set, the chunk of a module is what keeps rows and what is between within about 64 MiB.
    """
    compute: Compute = vmap.per_sample(problem, None if isinstance(problem, BlackBox) and chunk == CHUNK else chunk)
    return compute


@declare("torch.vmap.jacobian", problems=ModuleProblem, out=True, chunks=(16, 64))
def jacobian(problem: ModuleProblem, chunk: int = CHUNK) -> Compute:
    """Build vmap(jacrev(outputs)), `chunk` samples at a time; unless it is set, what takes about 64 MiB."""
    compute: Compute = vmap.jacobian(problem, None if chunk == CHUNK else chunk)
    return compute
