"""Numbers near a caller's own, to prove and time kernels on: parameters that are changed a little, samples in turn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

SPREAD = 0.1  # of drawn parameters around the caller's own, relative
ZERO_SPREAD = 0.01  # of those that are zero, which would keep what is before them from having a gradient


def near(values: Any, noise: Any) -> np.ndarray[Any, Any]:
    """Return each number times 1 + 0.1 of a standard normal one, or one near zero."""
    return np.asarray(np.where(values == 0, ZERO_SPREAD * noise, values * (1 + SPREAD * noise)))


def shuffled(total: int, n: int, seed: int) -> np.ndarray[Any, Any]:
    """Return the numbers of n samples in random order, again and again if there are fewer.

    Args:
        total: Number of samples there are.
        n: Number of samples.
        seed: Of the order.
    """
    return np.resize(np.random.default_rng([seed, 0]).permutation(total), n)


def with_floats(array: Any, kinds: Mapping[str, Any], order: Any) -> np.ndarray[Any, Any]:
    """Convert an array to numpy's, and to the dtype of its kind.

    Args:
        array: What numpy makes an array of.
        kinds: Dtypes by numpy's letter for a kind; what is of another kind stays as it is.
        order: Memory order, as numpy takes it.
    """
    made = np.asarray(array)
    return np.asarray(made, kinds.get(made.dtype.kind), order=order)
