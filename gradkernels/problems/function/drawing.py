"""Numbers near a caller's own, to prove and time kernels of a JAX function on."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradkernels.problems.problem import Floats
from gradkernels.tree import Tree, count, each, take

SPREAD = 0.1  # of drawn parameters around the caller's own, relative
ZERO_SPREAD = 0.01  # of those that are zero


def near(own: Tree, seed: int) -> Tree:
    """Draw each parameter's own entry times 1 + 0.1 of a standard normal number, or one near zero; float64."""
    rng = np.random.default_rng([seed, 1])

    def drawn(array: Any) -> Floats:
        values = np.asarray(array, np.float64)
        noise = rng.standard_normal(values.shape)
        return np.asarray(np.where(values == 0, ZERO_SPREAD * noise, values * (1 + SPREAD * noise)))

    return each(drawn, own)


def some_samples(example: tuple[Tree, Tree], n: int, seed: int) -> tuple[Tree, Tree]:
    """Return n samples of the example as numpy arrays, in random order, again and again if it has fewer.

    Args:
        example: `(x, y)`.
        n: Number of samples.
        seed: Of the order.
    """
    arrays = each(np.asarray, example)
    rows = np.resize(np.random.default_rng([seed, 0]).permutation(count(arrays)), n)
    chosen: tuple[Tree, Tree] = take(arrays, rows)
    return chosen


def cast(tree: Tree, dtype: str, order: Any) -> Tree:
    """Convert the floats of a tree of numpy arrays.

    Args:
        tree: Of arrays.
        dtype: Of the floats.
        order: Memory order, as numpy takes it.
    """

    def array(one: Any) -> Any:
        one = np.asarray(one)
        return np.asarray(one, dtype if one.dtype.kind == "f" else None, order=order)

    return each(array, tree)
