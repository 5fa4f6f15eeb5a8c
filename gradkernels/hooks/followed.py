"""A computation by hooks, or for a model that hooks cannot follow by vmap of the whole model."""

from __future__ import annotations

from typing import Any

import torch

from gradkernels import vmapped
from gradkernels.hooks.probe import Unfit
from gradkernels.kernel import Compute
from gradkernels.problems.module import ModuleProblem
from gradkernels.quantity import QUANTITIES
from gradkernels.tree import Tree, each

TRIES = 2
"""The second one looks at the model anew: it may have changed since it was looked at."""


def followed(problem: ModuleProblem, quantity: str, compute: Compute) -> Compute:
    """`compute`, or the quantity's definition from rows by `gradkernels.vmapped` where it raises `Unfit`.

    Args:
        problem: Whose model.
        quantity: Name of the quantity.
        compute: By hooks; what it raises once it raises at once the next time.
    """
    rows, of = vmapped.rows(problem, None), QUANTITIES[quantity].of

    def whole(theta: Tree, x: Tree, y: Tree, out: Tree | None = None, **options: Any) -> Any:
        if quantity == "per_sample":
            return rows(theta, x, y, out=out)
        with torch.inference_mode(False), torch.no_grad():
            result = of(torch, rows(theta, x, y), **options)
        return result if out is None else each(_fill, out, result)

    def call(theta: Tree, x: Tree, y: Tree, **options: Any) -> Any:
        for _ in range(TRIES):
            try:
                return compute(theta, x, y, **options)
            except Unfit:
                continue
        return whole(theta, x, y, **options)

    return call


def _fill(out: Any, result: Any) -> Any:
    return out.copy_(result)
