"""Random projections of the gradients to few dimensions, which keep inner products on average: attribution, search.

`gaussian` multiplies a row by a matrix with entries N(0, 1/size) (Johnson & Lindenstrauss 1984; TRAK, Park et al.
2023). `factored` multiplies the gradient of a weight with two axes or more from both sides by small matrices (LoGra,
Choe et al. 2024), and the rest as `gaussian`; the projections of all parameters are added up.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from gradkernels.backend import Array, arrays_of
from gradkernels.names import dtype_name
from gradkernels.quantities.shared.arguments import one_of, whole_number
from gradkernels.quantities.shared.definitions import flat_rows, in_own_dtype
from gradkernels.quantities.shared.projections import block_bytes, blocks_of_matrix, factors
from gradkernels.quantity import Draw, Floats, Option, Options, Quantity, Truth
from gradkernels.row_norms import wide
from gradkernels.tree import Tree, leaves

SIZE, SEED, KIND = 512, 0, "gaussian"
MATRIX_KINDS = ("gaussian", "factored")


def _shape(n: int, theta: Tree, size: int = SIZE, seed: int = SEED, kind: str = KIND) -> tuple[int, ...]:
    return (n, size)


def _of(xp: Any, g: Tree, size: int = SIZE, seed: int = SEED, kind: str = KIND) -> Array:
    named, total = g.items() if isinstance(g, dict) else [("", g)], None
    for (name, own), rows in zip(named, flat_rows(g), strict=True):
        part = project_rows(wide(rows), name, tuple(own.shape[1:]), size, seed, kind)
        total = part if total is None else total + part
    return in_own_dtype(total, g)


def project_rows(rows: Array, name: str, shape: tuple[int, ...], size: int, seed: int, kind: str) -> Array:
    """Return the projections `(n, size)` of one parameter's rows.

    Args:
        rows: `(n, m)`.
        name: Of the parameter; empty for a theta of one array.
        shape: Of the parameter, m entries.
        size: Dimensions.
        seed: Of the matrices.
        kind: `gaussian` or `factored`.
    """
    total = rows[:, :0] @ as_like(np.zeros((0, size)), rows)  # zeros, of a parameter without entries too
    if not math.prod(shape):
        return total
    if kind == "factored" and len(shape) > 1:
        outputs, inputs = (as_like(one, rows) for one in factors(seed, name, shape, size))
        return (outputs @ rows.reshape(len(rows), shape[0], -1) @ inputs.T).reshape(len(rows), size)
    for at, block in blocks_of_matrix(seed, name, shape, size):
        total = total + rows[:, at] @ as_like(block, rows).T
    return total


def as_like(matrix: Floats, rows: Array) -> Array:
    """Return a matrix as an array of the library, dtype and device of the rows."""
    library = arrays_of(rows)
    placed = library.put(matrix, library.device_of(rows)) if library.put else matrix
    return library.cast(placed, dtype_name(rows.dtype))


def _expect(truth: Truth, size: int = SIZE, seed: int = SEED, kind: str = KIND) -> tuple[Any, Any]:
    return truth.along_blocks(matrix_blocks(truth.theta, size, seed, kind))


def matrix_blocks(theta: Tree, size: int, seed: int, kind: str) -> Iterator[tuple[slice, Floats]]:
    """Yield the matrix `(size, P)` that flat rows are multiplied by, in blocks of columns: whole it may fit nowhere.

    Args:
        theta: Parameters, for their names and shapes.
        size: Dimensions of the projections.
        seed: Of the matrices.
        kind: `gaussian` or `factored`.

    Yields:
        The columns' numbers, and the block `(size, their count)` in float64.
    """
    start = 0
    for name, part in theta.items() if isinstance(theta, dict) else [("", theta)]:
        shape = tuple(part.shape)
        for block in _parameter_blocks(name, shape, size, seed, kind):
            yield slice(start, start := start + block.shape[1]), block


def _parameter_blocks(name: str, shape: tuple[int, ...], size: int, seed: int, kind: str) -> Iterator[Floats]:
    if kind != "factored" or len(shape) < 2:
        yield from (block for _, block in blocks_of_matrix(seed, name, shape, size))
        return
    outputs, inputs = factors(seed, name, shape, size)
    for row in range(shape[0]):
        yield np.kron(outputs[:, row : row + 1], inputs)


def _scratch(theta: Tree, size: int = SIZE, seed: int = SEED, kind: str = KIND) -> int:
    return block_bytes(max(math.prod(part.shape) for part in leaves(theta)), size)


def _needs(draw: Draw) -> Options:
    return {"size": 12}


def _settings(draw: Draw) -> Any:
    yield " with factors", {"size": 12, "seed": 1, "kind": "factored"}


PROJECT = Quantity(
    "project",
    _shape,
    _of,
    _expect,
    options=(
        Option("size", whole_number("size", 1, lambda size, n, theta: size * max(n, 1)), fixed=True),
        Option("seed", whole_number("seed", 0), fixed=True),
        Option("kind", one_of("kind", MATRIX_KINDS), fixed=True),
    ),
    per_parameter=False,
    by_sample=True,
    needs=_needs,
    settings=_settings,
    scratch=_scratch,
    rank=10,
)
