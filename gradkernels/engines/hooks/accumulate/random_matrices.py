"""The random matrices of a projection as tensors: those that were used last are kept, up to a number of bytes."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Hashable, Iterator, Sequence
from itertools import islice
from threading import Lock

import torch

from gradkernels.backend import Array
from gradkernels.engines.hooks.precision import sum_dtype
from gradkernels.quantities.project import as_like
from gradkernels.quantities.shared import projections

MOST_MATRIX_BYTES = 1 << 26
"""Of what is kept for all projections together."""

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
        outputs, inputs = self._kept(name)
        return outputs, inputs

    def blocks(self, name: str) -> Iterator[Array]:
        """Yield the matrix `(size, m)` that flat rows are multiplied by, in blocks of columns."""
        kept = self._given or (projections.keeps_blocks() and self._bytes(name) <= MOST_MATRIX_BYTES)
        yield from self._kept(name) if kept else self._made(name)

    def tensors(self) -> list[Array] | None:
        """Return the matrices of all parameters, in theta's order; None where they are not to be kept, or too large."""
        if self.nbytes() > MOST_MATRIX_BYTES or not projections.keeps_blocks():
            return None
        return [one for name in self._theta for one in self._kept(name)]

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

    def _made(self, name: str) -> Iterator[Array]:
        """Yield the matrices of a parameter as they are made."""
        parameter, (size, seed, _) = self._theta[name], self._how
        shape, like = tuple(parameter.shape), parameter.detach().new_empty(0, dtype=sum_dtype(parameter.dtype))
        if self._is_factored(name):
            yield from (as_like(one, like) for one in projections.factors(seed, name, shape, size))
        else:
            yield from (as_like(one, like) for _, one in projections.blocks_of_matrix(seed, name, shape, size))

    def _kept(self, name: str) -> tuple[Array, ...]:
        if name in self._given:
            return self._given[name]
        if not projections.keeps_blocks():
            return tuple(self._made(name))
        parameter = self._theta[name]
        key = self._how, name, tuple(parameter.shape), parameter.dtype, parameter.device
        found = _KEPT.get(key)
        if found is None:
            with torch.inference_mode(False):
                found = _KEPT.put(key, tuple(self._made(name)))
        return found


class _KeptTensors:
    """Tensors by key, of which those that were used the longest time ago make room."""

    def __init__(self) -> None:
        self._tensors: OrderedDict[Hashable, tuple[Array, ...]] = OrderedDict()
        self._bytes, self._lock = 0, Lock()

    def get(self, key: Hashable) -> tuple[Array, ...] | None:
        """Return the tensors of a key; None where none are kept."""
        with self._lock:
            if key not in self._tensors:
                return None
            self._tensors.move_to_end(key)
            return self._tensors[key]

    def put(self, key: Hashable, tensors: tuple[Array, ...]) -> tuple[Array, ...]:
        """Keep the tensors of a key, and return them."""
        with self._lock:
            self._bytes += _bytes_of(tensors) - _bytes_of(self._tensors.pop(key, ()))
            self._tensors[key] = tensors
            while self._bytes > MOST_MATRIX_BYTES and len(self._tensors) > 1:
                self._bytes -= _bytes_of(self._tensors.popitem(last=False)[1])
        return tensors


def _bytes_of(tensors: tuple[Array, ...]) -> int:
    return sum(one.nbytes for one in tensors)


_KEPT = _KeptTensors()
