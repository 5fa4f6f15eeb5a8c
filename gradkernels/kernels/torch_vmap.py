"""torch.func: vmap of the gradient of one sample's loss, in chunks."""

from __future__ import annotations

from gradkernels.kernel import Compute, declare
from gradkernels.memory import empty_torch, ordinary
from gradkernels.problems import Problem
from gradkernels.tree import each, take


@declare("torch.vmap.per_sample", out=True)
def per_sample(problem: Problem, chunk: int = 16384) -> Compute:
    """Rows from vmap(grad(loss)), `chunk` samples at a time, each chunk written into its place."""
    import torch
    from torch.func import grad, vmap

    gradients = vmap(grad(problem.loss), in_dims=(None, 0, 0))

    @torch.inference_mode(False)
    @torch.no_grad()  # inputs that require gradients must not make the result a part of their graph
    def compute(theta, x, y, out=None):  # type: ignore[no-untyped-def]
        theta, x, y = ordinary(theta), ordinary(x), each(ordinary, y)
        rows = empty_torch((len(x), *theta.shape), theta) if out is None else out
        for start in range(0, len(x), chunk):
            part = slice(start, start + chunk)
            rows[part] = gradients(theta, x[part], take(y, part))
        return rows

    return compute
