"""Samples whose norms are in doubt after a recording has run: their part of a clipped sum is put right."""

from __future__ import annotations

import torch

from gradkernels.backend import Array
from gradkernels.engines.hooks import quantities as hooks
from gradkernels.engines.hooks.precision import widen
from gradkernels.engines.hooks.quantities import Theta, clip_factors
from gradkernels.problems.module.module_problem import ModuleProblem
from gradkernels.tree import Tree, take

MOST_MENDED = 16
"""Samples whose rows are formed for it; with more the whole sum is computed by the hooks."""


class Mending:
    """Puts clipped sums of a problem right.

    Args:
        problem: Whose model.
        chunk: Samples that the hooks take at a time.
    """

    def __init__(self, problem: ModuleProblem, chunk: int) -> None:
        self._alone = problem.randomness != "different"  # else no sample's numbers are drawn again without the others
        self._norms, self._rows = hooks.norms(problem, chunk), hooks.per_sample(problem, chunk)

    def __call__(
        self, theta: Theta, data: tuple[Tree, Tree], max_norm: float, totals: Theta, found: tuple[Array, Array]
    ) -> bool:
        """Return whether the sums are right now.

        Args:
            theta: Parameters by name.
            data: x and y.
            max_norm: What norms are clipped to.
            totals: The sums by name, which are changed.
            found: The norms that they were made with, `(n,)`, and which are in doubt.
        """
        norms, at = found[0], found[1].nonzero().flatten()
        if not self._alone or not norms[at].isfinite().all():
            return False
        x, y = data
        norms_again = self._norms(theta, take(x, at), take(y, at))
        change = clip_factors(norms_again, max_norm) - clip_factors(norms[at], max_norm)
        wrong = change != 0
        if not change.isfinite().all() or int(wrong.sum()) > MOST_MENDED:
            return False
        if wrong.any():
            at, change = at[wrong], change[wrong]
            rows = self._rows(theta, take(x, at), take(y, at))
            for name, total in totals.items():
                total += torch.tensordot(change.to(total.dtype), widen(rows[name]), 1)
        return True
