"""Rows of some samples at a time, from all uses of their parameters: what is made of rows within a limit of memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch

from gradkernels.backend import Array
from gradkernels.engines.hooks.accumulate.inner_products import UseTerm
from gradkernels.engines.hooks.accumulate.row_memory import RowMemory
from gradkernels.engines.hooks.precision import row_matrix, sum_dtype


def bytes_of_row(parameter: Array) -> int:
    """Return what a sample's gradient of a parameter takes, with its copy where sums are in another dtype."""
    wide = sum_dtype(parameter.dtype)
    return parameter.numel() * (parameter.element_size() + (wide.itemsize if wide is not parameter.dtype else 0))


def pieces_of(n: int, size: int) -> Iterator[slice]:
    """Yield pieces of n samples, of `size` samples or fewer, and of one at least."""
    size = max(1, size)
    yield from (slice(start, min(start + size, n)) for start in range(0, n, size))


def rows_of_piece(
    terms: Iterable[UseTerm], theta: Mapping[str, Array], names: Iterable[str], at: slice
) -> dict[str, Array]:
    """Return the rows of some samples, `(samples, m)` by name, in the dtype of sums.

    Args:
        terms: All uses of the parameters, or of blocks of them, and gradients; none of what is made of them.
        theta: Parameters by name.
        names: Of the parameters.
        at: Which samples.
    """
    memory = RowMemory(
        {name: theta[name].detach().new_empty((at.stop - at.start, *theta[name].shape)) for name in names}
    )
    for use, place, g in terms:
        rows, add = memory.place(use.targets[place])
        use.write(place, g, rows, at, add)
    return {name: row_matrix(rows.reshape(len(rows), -1)) for name, rows in memory.finish().items()}


def gram_in_pieces(terms: Sequence[UseTerm], parameter: Array, name: str, n: int, room: int) -> Array:
    """Return the inner products `(n, n)` of a parameter's rows, of which two pieces are there at a time.

    Args:
        terms: All of its uses.
        parameter: It.
        name: Its name.
        n: Number of samples.
        room: Bytes that rows may take.
    """
    theta, pieces = {name: parameter}, [*pieces_of(n, room // max(1, 2 * bytes_of_row(parameter)))]
    found = torch.empty((n, n), dtype=sum_dtype(parameter.dtype), device=parameter.device)
    for number, one in enumerate(pieces):
        rows = rows_of_piece(terms, theta, [name], one)[name]
        found[one, one] = rows @ rows.mT
        for other in pieces[:number]:
            products = rows @ rows_of_piece(terms, theta, [name], other)[name].mT
            found[one, other], found[other, one] = products, products.mT
    return found
