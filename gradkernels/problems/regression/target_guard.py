"""Targets that a loss is not defined for, found at every call: a look at the smallest and the largest one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gradkernels.backend import Array, backend_of
from gradkernels.problems.regression.regression import Regression
from gradkernels.problems.regression.targets import EVERY, first_misfit
from gradkernels.tree import Tree


def target_guard(problem: Regression) -> Callable[[Tree], None] | None:
    """Return what raises a ValueError that names the first target without a loss; None where any number has one.

    NaN is none of these: it stands for itself.
    """
    span, name = _span(problem), "y.target" if problem.weighted else "y"
    if span == EVERY:
        return None

    def check(y: Tree) -> None:
        target = problem.split(y)[0]
        if not len(target) or (span is not None and _within(target, *span)):
            return
        backend = backend_of(target)
        values = np.asarray(backend.get(target) if backend else target)
        if found := first_misfit(problem.misfit, values):
            raise ValueError(f"{name}[{found[0]}] is {values[found[0]].item()}; for {problem.name} {found[1]}")

    return check


def _span(problem: Regression) -> tuple[float, float] | None:
    """Return the problem's span, unless a class derived from the one that tells it has a `misfit` of its own."""
    owners = [
        next(place for place, kind in enumerate(type(problem).__mro__) if name in vars(kind))
        for name in ("span", "misfit")
    ]
    return problem.span if owners[0] <= owners[1] else None


def _within(target: Array, low: float, high: float) -> bool:
    """Tell whether all lie between the bounds; False if one is NaN."""
    if isinstance(target, np.ndarray):
        if target.dtype.kind == "i" and low == 0:  # as unsigned numbers, negative ones are the largest
            return bool(np.maximum.reduce(target.view(f"u{target.itemsize}")) <= high)
        above = np.minimum.reduce(target) >= low
        return bool(above and (high == np.inf or np.maximum.reduce(target) <= high))
    least, most = target.aminmax() if hasattr(target, "aminmax") else (target.min(), target.max())
    return bool(least >= low) and bool(most <= high)
