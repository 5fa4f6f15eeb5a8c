"""The random matrices of a projection as tensors, kept between calls while memory is free."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import islice

import torch

from gradkernels.backend import Array
from gradkernels.engines.hooks.precision import sum_dtype
from gradkernels.memory.kept_arrays import kept_on
from gradkernels.quantities.project import as_like
from gradkernels.quantities.shared import projections

MOST_MATRIX_BYTES = 1 << 26
"""Of the matrices of one projection that are held at once, as what was recorded takes them."""

How = tuple[int, int, str]
"""Dimensions, seed and kind of a projection."""


class RandomMatrices:
    """The matrices of one projection, as its seed decides them or as they are given.

    Args:
        theta: Parameters by name, for their shapes, dtypes and devices.
        how: Dimensions, seed and kind of the projection.
        given: What `tensors` gave, perhaps for another seed; none to make or find them.
    """

    def __init__(self, theta: dict[str, Array], how: How, given: Sequence[Array] = ()) -> None:
        self._theta, self._how, left = theta, how, iter(given)
        self._given = {name: tuple(islice(left, self._count(name))) for name in theta} if given else {}

    def factors(self, name: str) -> tuple[Array, Array] | None:
        """Return what rows of a parameter are multiplied by from both sides; None where they are flat."""
        if not self._is_factored(name):
            return None
        outputs, inputs = self._given[name] if name in self._given else self._matrices(name)
        return outputs, inputs

    def blocks(self, name: str) -> Iterator[Array]:
        """Yield the matrix `(size, m)` that flat rows are multiplied by, in blocks of columns."""
        yield from self._given[name] if name in self._given else self._matrices(name)

    def tensors(self) -> list[Array] | None:
        """Return the matrices of all parameters, in theta's order; None where they are not to be kept, or too large."""
        if self.nbytes() > MOST_MATRIX_BYTES or not projections.keeps_blocks():
            return None
        return [one for name in self._theta for one in self._matrices(name)]

    def nbytes(self) -> int:
        """Return how many bytes the matrices of all parameters have."""
        return sum(map(self._bytes, self._theta))

    def _is_factored(self, name: str) -> bool:
        return self._how[2] == "factored" and self._theta[name].ndim > 1 and self._theta[name].numel() > 0

    def _count(self, name: str) -> int:
        """Return how many matrices a parameter has, or blocks of one."""
        width = max(1, projections.BLOCK_ENTRIES // self._how[0])
        return 2 if self._is_factored(name) else -(-self._theta[name].numel() // width)

    def _bytes(self, name: str) -> int:
        parameter, size = self._theta[name], self._how[0]
        entry = size * sum_dtype(parameter.dtype).itemsize
        if self._is_factored(name):
            return entry * (len(parameter) + math.prod(parameter.shape[1:]))  # at most
        return entry * parameter.numel()

    def _matrices(self, name: str) -> Iterator[Array]:
        """Yield the matrices of a parameter, each made or found as it is asked for."""
        parameter, (size, seed, _) = self._theta[name], self._how
        shape, like = tuple(parameter.shape), parameter.detach().new_empty(0, dtype=sum_dtype(parameter.dtype))
        of = projections.undrawn_factors if self._is_factored(name) else projections.undrawn_blocks
        for block in of(seed, name, shape, size):
            yield _tensor(block, like)


def _tensor(block: projections.MatrixBlock, like: Array) -> Array:
    """Return a block in the dtype and on the device of a tensor, kept for the next call where that is to be."""

    def made() -> Array:
        with torch.inference_mode(False):
            return as_like(block.drawn(), like)

    return kept_on(str(like.device)).get((block, like.dtype), made) if projections.keeps_blocks() else made()
