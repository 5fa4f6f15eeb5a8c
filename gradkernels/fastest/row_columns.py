"""The transpose of a matrix of rows: what it is multiplied by goes to the matrix itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gradkernels.backend import Array
from gradkernels.fastest.operands import operand


@dataclass(frozen=True, eq=False)
class Columns:
    """The transpose of a matrix of rows.

    Attributes:
        rows: The matrix.
    """

    rows: Any

    __array_ufunc__ = None

    @property
    def T(self) -> Any:
        """The matrix of rows itself."""
        return self.rows

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of parameters and of samples."""
        n, parameters = self.rows.shape
        return parameters, n

    def __matmul__(self, weights: Any) -> Array:
        """Compute G^T w `(P,)`, or `(P, K)` for w `(n, K)`; with G itself `G.T @ G`, its `gk.outer` `(P, P)`."""
        if weights is self.rows:
            return self.rows.outer()
        weights, n = operand(weights, "w"), len(self.rows)
        if not 1 <= weights.ndim <= 2 or len(weights) != n:
            raise ValueError(f"w is {tuple(weights.shape)}; it must be ({n},) or ({n}, K)")
        product = (weights if weights.ndim == 1 else weights.T) @ self.rows
        return product if weights.ndim == 1 else product.T
