"""What is asked of the per-sample gradients g: five quantities, each defined once.

g is an array `(n, *theta.shape)`, or a dict of such arrays, one per parameter. `of(xp, g)` is the definition,
written with operations that numpy, torch and `jax.numpy` share; every kernel must agree with it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

from gradkernels.backend import Array
from gradkernels.names import pick
from gradkernels.row_norms import cast_like, half, lengths, narrowed, wide
from gradkernels.tree import Tree, each, leaves

Shape = tuple[int, ...]


T = TypeVar("T")


class Moments(NamedTuple, Generic[T]):
    """Mean and biased variance (divided by n) of the per-sample gradients, each of theta's shape."""

    mean: T
    variance: T


@dataclass(frozen=True, repr=False)
class Quantity:
    """One thing asked of the per-sample gradients.

    Attributes:
        name: The public function and the last part of a kernel's key.
        shape: `shape(n, theta_shape)`, the shape of each array in the result.
        of: `of(xp, g, **options)`, the definition.
        averages: Whether it divides by n, so that n = 0 has no answer.
        writable: Whether it takes `out=`.
        options: Names of the keyword arguments that its kernels take besides `out`.
        per_parameter: Whether its result has theta's structure: a dict where theta is one.
    """

    name: str
    shape: Callable[[int, Shape], Shape] = field(compare=False)
    of: Callable[..., Any] = field(compare=False)
    averages: bool = field(default=False, compare=False)
    writable: bool = field(default=False, compare=False)
    options: tuple[str, ...] = field(default=(), compare=False)
    per_parameter: bool = field(default=True, compare=False)

    def __repr__(self) -> str:
        """Return `Quantity('norms')`."""
        return f"Quantity({self.name!r})"

    def __str__(self) -> str:
        return self.name

    @property
    def by_sample(self) -> bool:
        """Whether its result has a part for each sample, and not their sum or mean."""
        return bool(self.shape(1, ()))

    def blank(self, n: int, theta: Tree) -> Any:
        """Make a result of n samples with the right structure and shapes, but of zeros without memory."""
        if not self.per_parameter:
            return np.broadcast_to(0.0, self.shape(n, ()))
        one = each(lambda part: np.broadcast_to(0.0, self.shape(n, tuple(part.shape))), theta)
        return Moments(one, one) if self.name == "moments" else one

    def __reduce__(self) -> tuple[Any, ...]:
        """Reduce to the name, since definitions cannot be pickled; so that cases travel to other processes."""
        return quantity, (self.name,)


def _per_sample(xp: Any, g: Any) -> Any:
    return g


def _gradient(xp: Any, g: Any) -> Any:
    return each(lambda rows: narrowed(wide(rows).mean(0), rows), g)


def _lengths(xp: Any, g: Any) -> Array:
    return lengths(xp, [rows.reshape(len(rows), math.prod(rows.shape[1:])) for rows in leaves(g)])


def _norms(xp: Any, g: Any) -> Array:
    norms = _lengths(xp, g)
    return narrowed(norms, leaves(g)[0]) if all(map(half, leaves(g))) else norms


def _moments(xp: Any, g: Any) -> Moments[Any]:
    return Moments(_gradient(xp, g), each(_variance, g))


def _variance(rows: Array) -> Array:
    rows, own = wide(rows), rows
    return narrowed(((rows - rows.mean(0)) ** 2).mean(0), own)


def _clipped_sum(xp: Any, g: Any, max_norm: float = 1.0) -> Any:
    # min(1, max_norm / norm), also for a norm of zero and an infinite max_norm.
    factors = 1 / xp.clip(_lengths(xp, g) / max_norm, min=1.0)
    return each(partial(_weighted_sum, xp, factors), g)


def _weighted_sum(xp: Any, factors: Array, rows: Array) -> Array:
    summed = wide(rows)  # the norms of a module of several dtypes have the widest of them
    return narrowed(xp.tensordot(cast_like(factors, summed), summed, 1), rows)


def _of_theta(n: int, theta: Shape) -> Shape:
    return theta


QUANTITIES = {
    quantity.name: quantity
    for quantity in (
        Quantity("gradient", _of_theta, _gradient, averages=True),
        Quantity("per_sample", lambda n, theta: (n, *theta), _per_sample, writable=True),
        Quantity("norms", lambda n, theta: (n,), _norms, writable=True, per_parameter=False),
        Quantity("moments", _of_theta, _moments, averages=True),
        Quantity("clipped_sum", _of_theta, _clipped_sum, options=("max_norm",)),
    )
}
"""The five quantities by name: gradient of the mean loss, rows, norms, moments, sum of clipped rows."""


def quantity(name: str | Quantity) -> Quantity:
    """Return the quantity called `name`; a ValueError that lists near names otherwise."""
    if isinstance(name, Quantity):
        return name
    return pick(QUANTITIES, name, "quantity")
