"""The random matrices of `project`: what they hold follows from a seed, a parameter's name and its shape alone.

Entries come from a counter-based generator (Philox, Salmon et al. 2011), so that any block of columns can be made by
itself, in any process: a matrix is never held whole.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

import numpy as np

from gradkernels.quantity import Floats, Shape

BLOCK_ENTRIES = 1 << 20

MOST_BLOCKS = 16
"""Blocks, 8 MiB each, that are kept for the next batch: making one takes longer than multiplying by it."""


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
    entries, width = math.prod(shape), max(1, BLOCK_ENTRIES // size)
    for number, start in enumerate(range(0, entries, width)):
        stop = min(start + width, entries)
        yield slice(start, stop), _normals(seed, name, shape, number, (size, stop - start), size)


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
    first = next(k for k in range(math.isqrt(size), 0, -1) if size % k == 0)
    second, columns = size // first, math.prod(shape[1:])
    outputs = _normals(seed, name, shape, 0, (first, shape[0]), first)
    return outputs, _normals(seed, name, shape, 1, (second, columns), second)


def _normals(*block: Any) -> Floats:
    return (_made if _limited.get() else _kept)(*block)


def _made(seed: int, name: str, shape: Shape, number: int, of: Shape, size: int) -> Floats:
    """Return one block of normals with variance 1 / size, which nobody may write to."""
    values = _generator(seed, name, shape, number).standard_normal(of)
    values /= math.sqrt(size)
    values.setflags(write=False)
    return values


_kept = lru_cache(maxsize=MOST_BLOCKS)(_made)
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
    _kept.cache_clear()


def keeps_blocks() -> bool:
    """Return whether blocks may be kept for the next call."""
    return not _limited.get()


def kept_blocks() -> int:
    """Return how many blocks are kept."""
    return _kept.cache_info().currsize


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
