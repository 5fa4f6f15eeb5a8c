"""The control: the computation that is timed beside every kernel, to tell the machine's doing from the code's."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def control() -> Callable[[], np.float64]:
    """Return a small fixed computation that no change of gradkernels touches: the yardstick between files.

    Raises:
        ArithmeticError: numpy computes it wrongly here.
    """
    numbers = np.arange(1000.0)

    def compute() -> np.float64:
        return (numbers * numbers).sum()

    if compute() != 332833500.0:
        raise ArithmeticError("numpy does not sum the squares of 0 to 999 to 332833500; nothing it says can be trusted")
    return compute
