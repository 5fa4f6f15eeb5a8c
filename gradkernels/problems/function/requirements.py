"""What a JAX function is refused for: every refusal is a sentence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gradkernels.backend import Array
from gradkernels.tree import Tree, count, leaves, named


def as_jax_array(array: Any, name: str) -> Array:
    """Return an array of numpy or JAX as one of JAX; a TypeError for anything else."""
    import jax

    if isinstance(array, jax.Array):
        if jax.numpy.issubdtype(array.dtype, jax.dtypes.prng_key):
            raise TypeError(
                f"{name} has keys of jax.random, which are no numbers to keep for a proof; give "
                "jax.random.key_data(keys), and wrap them in losses by jax.random.wrap_key_data"
            )
        return array
    if isinstance(array, np.ndarray) and array.dtype.kind in "biuf":
        return jax.numpy.asarray(array)
    raise TypeError(f"{name} has a {type(array).__name__}; give arrays, or tuples, named tuples or dicts of arrays")


def is_donated(array: Array) -> bool:
    """Return whether an array of JAX was given away to a compiled function (`donate_argnums`), or deleted."""
    return hasattr(array, "is_deleted") and bool(array.is_deleted())


def require_there(own: Tree) -> Tree:
    """Return the arrays of params, which stand for a theta that is None.

    Raises:
        ValueError: They were donated.
    """
    if any(map(is_donated, leaves(own))):
        raise ValueError(
            "theta is None, and the params that the problem was made with were donated since, so that their entries "
            "are gone: pass the params of now as theta"
        )
    return own


def require_params_fit(theta: Tree, own: Tree, x: Tree, y: Tree) -> None:
    """Raise unless theta has the shapes of params and one dtype, and x and y have the samples first.

    Args:
        theta: Parameters, flat.
        own: Those of params.
        x: Inputs.
        y: Targets.

    Raises:
        ValueError: Shapes that do not fit.
        TypeError: Several dtypes.
    """
    for (name, array), like in zip(named("theta", theta), leaves(own), strict=True):
        if tuple(array.shape) != tuple(like.shape):
            raise ValueError(f"{name} is {tuple(array.shape)}; that of params is {tuple(like.shape)}")
    if len(dtypes := {str(array.dtype) for array in leaves(theta)}) > 1:
        raise TypeError(f"theta has {' and '.join(sorted(dtypes))}; convert its arrays to one dtype")
    shapes = {name: tuple(one.shape) for tree in (("x", x), ("y", y)) for name, one in named(*tree)}
    if len({shape[:1] for shape in shapes.values()}) > 1 or () in shapes.values():
        listed = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ValueError(f"x and y must have the samples first, as many in each array; given are {listed}")


def require_losses(losses: Callable[[Tree, Tree, Tree], Any], theta: Tree, x: Tree, y: Tree) -> None:
    """Raise a ValueError unless a function returns a loss of each sample, as its trace tells.

    Args:
        losses: Of theta, x and y.
        theta: Parameters, flat.
        x: Inputs, samples first.
        y: Targets, samples first.
    """
    import jax

    found, n = jax.eval_shape(losses, theta, x, y), count(y)
    if getattr(found, "shape", None) != (n,) or not jax.numpy.issubdtype(found.dtype, jax.numpy.floating):
        given = f"{found.dtype} {found.shape}" if hasattr(found, "shape") else f"a {type(found).__name__}"
        raise ValueError(f"losses returned {given}; it must return a loss of each sample, floats ({n},), unreduced")
