"""What is said of samples whose gradients are not finite."""

from __future__ import annotations

from typing import Any

from gradkernels.names import counted

RAISE = "raise"
MOST_NAMED = 5
"""Samples that a message names."""


class NonFiniteWarning(UserWarning):
    """Samples were left out of a sum, since their gradients are not finite."""


def said_of_odd(first: Any, count: int, n: int, nonfinite: str) -> str:
    """Return what a warning says of samples whose gradients are not finite and were left out.

    Args:
        first: Numbers of the first of them, one more than a message names.
        count: How many there are; 0 leaves nothing to say.
        n: Number of all samples.
        nonfinite: As the caller gave it.

    Raises:
        ValueError: There are some, and the caller wants to have this raised.
    """
    if not count:
        return ""
    named = ", ".join(map(str, first[:MOST_NAMED])) + ", ..." * (count > MOST_NAMED)
    which = f"{count:,} of {counted(n, 'sample')}, number {named}"
    if nonfinite == RAISE:
        raise ValueError(f"gradients are not finite: of {which}; nonfinite='drop' leaves them out")
    return f"gradients are not finite and were left out of the sum: of {which}"
