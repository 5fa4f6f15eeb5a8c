"""Numbers near a caller's own, to prove and time kernels of a JAX function on."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradkernels.problems.function.requirements import is_donated
from gradkernels.problems.nearby import near, shuffled, with_floats
from gradkernels.tree import Tree, count, each, take
from gradkernels.truth import Floats


def drawn_parameters(own: Tree, seed: int) -> Tree:
    """Draw each parameter's own entry times 1 + 0.1 of a standard normal number, or one near zero; float64.

    Of an array that was donated since, whose entries nobody has any more, all are near zero.
    """
    rng = np.random.default_rng([seed, 1])

    def drawn(array: Any) -> Floats:
        values = np.zeros(array.shape) if is_donated(array) else np.asarray(array, np.float64)
        return near(values, rng.standard_normal(values.shape))

    return each(drawn, own)


def some_samples(example: tuple[Tree, Tree], n: int, seed: int) -> tuple[Tree, Tree]:
    """Return n samples of the example as numpy arrays, in random order, again and again if it has fewer.

    Args:
        example: `(x, y)`.
        n: Number of samples.
        seed: Of the order.
    """
    arrays = each(np.asarray, example)
    chosen: tuple[Tree, Tree] = take(arrays, shuffled(count(arrays), n, seed))
    return chosen


def cast_floats(tree: Tree, dtype: str, order: Any) -> Tree:
    """Convert the floats of a tree of numpy arrays.

    Args:
        tree: Of arrays.
        dtype: Of the floats.
        order: Memory order, as numpy takes it.
    """
    return each(lambda one: with_floats(one, {"f": dtype}, order), tree)
