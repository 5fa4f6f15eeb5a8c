"""Gradients as they are, each sample's own, of which a quantity's definition makes what results are held against."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Protocol

import numpy as np

from gradkernels.tree import Tree, leaves

Floats = np.ndarray[Any, Any]


class Truth(Protocol):
    """Gradients of each sample as they are, float64, of which `expect` makes what a quantity must be.

    Rows are `(n, *theta.shape)`, `(n, p)` where theta is a dict: its parameters side by side in order. A scale is
    what rounding errors are relative to.
    """

    @property
    def theta(self) -> Tree:
        """Parameters, for their names and shapes."""

    @property
    def rows(self) -> Floats:
        """Per-sample gradients."""

    @property
    def scale(self) -> Floats:
        """Scale of each entry of `rows`."""

    @property
    def gradient(self) -> Floats:
        """Derivative of the mean loss: not computed from `rows`."""

    @property
    def norms(self) -> Floats:
        """Euclidean norm of each row, `(n,)`."""

    @property
    def norm_scale(self) -> Floats:
        """Scale of each norm, `(n,)`."""

    @property
    def mean_scale(self) -> Floats:
        """Scale of each entry of a mean over samples."""

    @property
    def mean_square_scale(self) -> Floats:
        """Scale of each entry of a mean of squares over samples."""

    @property
    def variance(self) -> Floats:
        """Biased variance of the rows over samples."""

    def weighted_scale(self, weights: Floats) -> Floats:
        """Return the scale of each entry of a sum of rows times `weights` `(n,)`."""

    def norms_over(self, columns: Floats) -> tuple[Floats, Floats]:
        """Return the norms of the rows over some columns, `(n,)`, and their scales."""

    def scale_along(self, directions: Floats) -> Floats:
        """Return the scale of the products of each row with `directions` `(p,)` or `(k, p)`: `(n,)` or `(n, k)`."""

    def along_blocks(self, blocks: Iterable[tuple[slice, Floats]]) -> tuple[Floats, Floats]:
        """Return the products of each row with directions `(k, p)`, which come in blocks of columns, and their scales.

        Both are `(n, k)`.
        """

    def of_batch(self, batch: tuple[Tree, Tree]) -> Truth:
        """Return the same of other samples `(x, y)`."""


def flat(tree: Tree, leading: int = 0) -> Floats:
    """Lay the arrays of a tree side by side, in float64: `(*leading axes, p)`.

    Args:
        tree: An array, or a dict of them, on the CPU.
        leading: Number of axes that stay.
    """
    arrays = [np.asarray(part, np.float64) for part in leaves(tree)]
    matrices = [array.reshape(*array.shape[:leading], math.prod(array.shape[leading:])) for array in arrays]
    return np.concatenate(matrices, -1)
