"""A matrix of rows as scipy's LinearOperator, whose products are the matrix's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradkernels.backend import Array, backend_of
from gradkernels.fastest.operands import in_numpy

if TYPE_CHECKING:
    from scipy.sparse.linalg import LinearOperator


def operator_of(matrix: Any, like: Array) -> LinearOperator:
    """Return the operator, in numpy's float64.

    Args:
        matrix: Has `shape`, `T` and products from the left.
        like: An array whose library, device and dtype it computes in.
    """
    from scipy.sparse.linalg import LinearOperator

    def product(vectors: Any) -> Any:
        return _product(matrix, vectors, like)

    def adjoint(weights: Any) -> Any:
        return _product(matrix.T, weights, like)

    products = {"matvec": product, "matmat": product, "rmatvec": adjoint, "rmatmat": adjoint}
    return LinearOperator(matrix.shape, **products, dtype=np.float64)


def _product(matrix: Any, vectors: Any, like: Array) -> Any:
    if np.iscomplexobj(vectors):
        return _product(matrix, vectors.real, like) + 1j * _product(matrix, vectors.imag, like)
    library = backend_of(like)
    assert library is not None
    placed = library.put(np.ascontiguousarray(vectors), library.arrays.device_of(like))
    return in_numpy(matrix @ library.arrays.cast(placed, str(like.dtype).removeprefix("torch.")))
