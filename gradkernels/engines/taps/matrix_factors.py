"""What rules have in common whose factors a and b are matrices: the gradient of a weight is their product."""

from __future__ import annotations

from abc import ABC, abstractmethod

import jax.numpy as jnp

from gradkernels.backend import Array


class MatrixFactors(ABC):
    """Factors a `(T, i)` and b `(T, o)` of a weight whose axes, in some order, are those of `(i, o)`.

    Attributes:
        shape: Of the weight.
    """

    shape: tuple[int, ...]

    @property
    @abstractmethod
    def _order(self) -> tuple[int, ...]:
        """Return the axes of the weight, those of i first."""

    def products(self, a: Array, other: Array) -> Array:
        """Return `(..., T, S)`, the inner products of rows of a with those of another a."""
        return a @ jnp.swapaxes(other, -1, -2)

    def joined(self, a: Array, b: Array) -> Array:
        """Return the gradient `(i, o)` of factors with rows `(..., T, .)` that are all added up."""
        return a.reshape(-1, a.shape[-1]).T @ b.reshape(-1, b.shape[-1])

    def applied(self, direction: Array, a: Array) -> Array:
        """Return `(..., T, o)`, a times a direction `(i, o)`."""
        return a @ direction

    def restored(self, matrix: Array) -> Array:
        """Return `(i, o)` in the weight's shape."""
        order = self._order
        back = sorted(range(len(order)), key=lambda place: order[place])
        return matrix.reshape([self.shape[axis] for axis in order]).transpose(back)
