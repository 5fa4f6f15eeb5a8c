"""The independent reference for modules: one backward pass per sample, in float64, through the model as it is.

The rounding scale of a row is its norm: a whole network rounds more than one inner product, and every entry shares
in it. Where a loss is nearly flat a row is a small difference of large numbers; no working precision can know it to
its own size, so the scale is at least what the same pass in float32 is off by, in units that leave a kernel
`SLACK` times that error.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gradkernels.problems.problem import Floats, Truth
from gradkernels.tree import Tree, count, each, leaves, take

if TYPE_CHECKING:
    from gradkernels.problems.module import ModuleProblem

SLACK = 16.0
FLOAT32_TOLERANCE = 1e-4


def truth(problem: ModuleProblem, theta: Any, x: Tree, y: Tree) -> Truth:
    """Rows `(n, p)`, parameters in theta's order; the gradient from one backward pass of the mean of all losses."""
    wide = rows_of(problem, theta, x, y, "float64")
    narrow = rows_of(problem, theta, x, y, "float32")
    norms = np.linalg.norm(wide, axis=1)
    with np.errstate(invalid="ignore"):
        off = np.nan_to_num(np.linalg.norm(narrow - wide, axis=1), posinf=0.0)
    scale = np.maximum(norms, SLACK / FLOAT32_TOLERANCE * off)
    return Truth(wide, np.broadcast_to(scale[:, None], wide.shape), wide.mean(0), scale)


def rows_of(problem: ModuleProblem, theta: Any, x: Tree, y: Tree, dtype: str) -> Floats:
    """Per-sample gradients `(n, p)` as float64 numbers, computed in `dtype`, one backward pass each."""
    import torch

    kind = getattr(torch, dtype)
    device = next(iter(problem.own().values())).device
    own = replace(problem, model=copy.deepcopy(problem.model).to(kind), example=None)

    def put(array: Any) -> Any:
        tensor = torch.from_numpy(np.array(array)).to(device)
        return tensor.to(kind) if tensor.is_floating_point() else tensor

    leaf = {name: put(array).requires_grad_() for name, array in theta.items()}
    x, y = each(put, (x, y))
    rows = np.empty((count(y), sum(one.numel() for one in leaf.values())))
    for i in range(count(y)):
        with torch.inference_mode(False), torch.enable_grad(), own.drawing():
            loss = own.loss(leaf, take(x, i), take(y, i))
            parts = torch.autograd.grad(loss, list(leaf.values()), allow_unused=True, materialize_grads=True)
        rows[i] = np.concatenate([part.double().numpy(force=True).ravel() for part in parts])
    return rows
