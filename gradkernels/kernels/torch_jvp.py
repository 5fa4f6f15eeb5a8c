"""torch.autograd.forward_ad: products of gradients with a direction, from dual numbers and no backward pass."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

from gradkernels.backend import Array
from gradkernels.case import Case
from gradkernels.kernel import Compute, declare
from gradkernels.problems.module.module_problem import ModuleProblem
from gradkernels.problems.module.structure import Parameters
from gradkernels.tree import Tree, count, take

CHUNK = 1 << 20
MOST_DIRECTIONS = 8
"""Each of them takes a pass of its own, where one pass forward and backward has all."""


def _refuses(case: Case) -> list[str]:
    problem: Any = case.problem
    if problem.randomness != "same":
        return []
    return ["torch.jvp draws random numbers for a batch, not the same for every sample; use torch.hooks"]


@declare("torch.jvp.inner", problems=ModuleProblem, refuses=_refuses)
def inner(problem: ModuleProblem, chunk: int = CHUNK) -> Compute:
    """Build the derivatives of the losses along a direction, `chunk` samples at a time; several take several passes."""
    import torch

    from gradkernels.engines.forward import losses_along
    from gradkernels.engines.hooks.errors import Unfit

    def along(theta: Parameters, x: Tree, y: Tree, v: Parameters) -> Array:
        widest, n = max(theta.values(), key=torch.Tensor.element_size), count(y)
        found = [widest.new_zeros(0).detach()]
        with problem.seeded() if problem.randomness == "different" else nullcontext():
            for start in range(0, n, chunk):
                part = slice(start, start + chunk)
                found.append(losses_along(problem, theta, (take(x, part), take(y, part)), v).to(widest.dtype))
        return torch.cat(found)

    def compute(theta: Parameters, x: Tree, y: Tree, v: Parameters) -> Array:
        first = next(iter(theta))
        if v[first].ndim == theta[first].ndim:
            return along(theta, x, y, v)
        if len(v[first]) > MOST_DIRECTIONS:
            raise Unfit(f"torch.jvp takes a pass for each of {len(v[first])} directions; torch.hooks has all from one")
        each = [along(theta, x, y, {name: one[k] for name, one in v.items()}) for k in range(len(v[first]))]
        return torch.stack(each, 1) if each else along(theta, x, take(y, slice(0)), theta).new_zeros((count(y), 0))

    return compute
