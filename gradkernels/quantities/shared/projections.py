"""The random matrices of `project`: what they hold follows from a seed, a parameter's name and its shape alone.

Entries come from a counter-based generator (Philox, Salmon et al. 2011), so that any block of columns can be made by
itself, in any process: a matrix need not be held whole. Drawing a block takes longer than multiplying by it: blocks are
kept for the next batch while memory is free (`gradkernels.memory.kept_arrays`).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import numpy as np

from gradkernels.memory.kept_arrays import kept_on, release_kept
from gradkernels.quantity import Floats, Shape

BLOCK_ENTRIES = 1 << 20


def blocks_of_matrix(seed: int, name: str, shape: Shape, size: int) -> Iterator[tuple[slice, Floats]]:
    """Yield the columns of a gaussian matrix `(size, m)`, entries N(0, 1/size), for a parameter of m entries.

    Args:
        seed: Of all matrices.
        name: Of the parameter; empty for an array.
        shape: Of the parameter.
        size: Number of rows.

    Yields:
        The columns' numbers, and the block `(size, their count)` in float64.
    """
    for block in undrawn_blocks(seed, name, shape, size):
        yield slice(block.start, block.start + block.of[1]), _normals(block)


@dataclass(frozen=True)
class MatrixBlock:
    """A block of a random matrix, and all that its entries follow from: equal blocks are the same.

    Attributes:
        seed: Of all matrices.
        name: Of the parameter; empty for an array.
        shape: Of the parameter.
        number: Of the block among those of the parameter.
        of: Its shape.
        size: The variance of its entries is 1 / size.
        start: Its first column's number.
    """

    seed: int
    name: str
    shape: Shape
    number: int
    of: Shape
    size: int
    start: int = 0

    def drawn(self) -> Floats:
        """Draw the block, in float64: what nobody may write to."""
        values = _generator(self.seed, self.name, self.shape, self.number).standard_normal(self.of)
        values /= math.sqrt(self.size)
        values.setflags(write=False)
        return values


def undrawn_blocks(seed: int, name: str, shape: Shape, size: int) -> Iterator[MatrixBlock]:
    """Yield the blocks of columns of a gaussian matrix `(size, m)` before they are drawn (see `blocks_of_matrix`).

    Args:
        seed: Of all matrices.
        name: Of the parameter; empty for an array.
        shape: Of the parameter.
        size: Number of rows.
    """
    entries, width = math.prod(shape), max(1, BLOCK_ENTRIES // size)
    for number, start in enumerate(range(0, entries, width)):
        yield MatrixBlock(seed, name, shape, number, (size, min(width, entries - start)), size, start)


def factors(seed: int, name: str, shape: Shape, size: int) -> tuple[Floats, Floats]:
    """Return the matrices `(k, rows)` and `(l, columns)` of a linear map's weight, with k l = size.

    Their entries are N(0, 1/k) and N(0, 1/l), so that inner products are kept on average, as by a gaussian matrix (Choe
    et al. 2024, arXiv:2405.13954).

    Args:
        seed: Of all matrices.
        name: Of the parameter.
        shape: Of the parameter: rows, and the axes of its columns.
        size: Of the projection.
    """
    outputs, inputs = map(_normals, undrawn_factors(seed, name, shape, size))
    return outputs, inputs


def undrawn_factors(seed: int, name: str, shape: Shape, size: int) -> tuple[MatrixBlock, MatrixBlock]:
    """Return both factors before they are drawn (see `factors`).

    Args:
        seed: Of all matrices.
        name: Of the parameter.
        shape: Of the parameter: rows, and the axes of its columns.
        size: Of the projection.
    """
    first = next(k for k in range(math.isqrt(size), 0, -1) if size % k == 0)
    second, columns = size // first, math.prod(shape[1:])
    outputs = MatrixBlock(seed, name, shape, 0, (first, shape[0]), first)
    return outputs, MatrixBlock(seed, name, shape, 1, (second, columns), second)


def _normals(block: MatrixBlock) -> Floats:
    return block.drawn() if _limited.get() else kept_on("cpu").get(block, block.drawn)


_limited: ContextVar[bool] = ContextVar("limited", default=False)


@contextmanager
def without_kept_blocks() -> Iterator[None]:
    """Open a context, of a call whose memory is limited, in which no block is kept: each is made where it is needed."""
    forget_blocks()
    token = _limited.set(True)
    try:
        yield
    finally:
        _limited.reset(token)


def forget_blocks() -> None:
    """Drop the blocks that are kept."""
    release_kept()


def keeps_blocks() -> bool:
    """Return whether blocks may be kept for the next call."""
    return not _limited.get()


def block_bytes(entries: int, size: int) -> int:
    """Return the bytes that a call has in blocks at a time where none is kept: one in float64, and as the rows are.

    Args:
        entries: Of the largest parameter.
        size: Number of rows.
    """
    return 16 * min(entries * size, max(BLOCK_ENTRIES, size))


def _generator(seed: int, name: str, shape: Shape, number: int) -> np.random.Generator:
    text = f"{seed} {name} {','.join(map(str, shape))}".encode()
    key = int.from_bytes(hashlib.blake2b(text, digest_size=16).digest(), "little")
    return np.random.Generator(np.random.Philox(key=key, counter=[0, 0, 0, number]))
