"""Targets that a loss is not defined for: the first of them, and why."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gradkernels.truth import Floats

EVERY = (-np.inf, np.inf)
"""The span of a loss for which any number will do."""


def first_misfit(why: Callable[[Floats], str], target: Floats) -> tuple[int, str] | None:
    """Find the first target without a loss, and say what is allowed; None where there is none.

    NaN is passed over.

    Args:
        why: A problem's `misfit`; an answer for some targets must hold for more.
        target: `(n,)`.
    """

    def misfit(count: int) -> str:
        some = target[:count]
        return why(some[some == some])

    if not misfit(len(target)):
        return None
    good, bad = 0, len(target)
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (good, middle) if misfit(middle) else (middle, bad)
    return bad - 1, misfit(len(target))
