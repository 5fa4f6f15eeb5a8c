"""Linear maps of any leading axes: rows are outer products (Goodfellow 2015, arXiv:1510.01799)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from gradkernels.backend import Array
from gradkernels.hooks.measured import fastest_of
from gradkernels.hooks.rule import Given, Rule, Targets, not_last
from gradkernels.hooks.use import Use


class Linear(Use):
    """y = a weight^T + bias; with further leading axes a row is the sum of their outer products.

    Args:
        targets: `weight` `(o, i)` and `bias` `(o,)`, where they are to be differentiated by.
        a: Input, `(n, ..., i)`.
    """

    def __init__(self, targets: Targets, a: Array, given: Given) -> None:
        self.targets = targets
        self._a = _steps(a)

    def write(self, target: Any, g: Array, out: Array, at: slice, add: bool) -> None:
        """g_i a_i^T, summed over the leading axes of a sample."""
        g = _steps(g)[at]
        if target == "bias":
            _write_sum(g, out, add)
        elif g.ndim == 2:
            _write_outer(g, self._a[at], out, add)
        else:
            _write_product(g, self._a[at], out, add)

    def squared_norms(self, places: Sequence[Any], g: Array) -> Array:
        """|g|^2 (|a|^2 + 1) for weight and bias."""
        g = _steps(g)
        if g.ndim == 2 and len(places) == 2:
            of_g = _squared(g)
            return torch.addcmul(of_g, of_g, _squared(self._a))
        return super().squared_norms(places, g)

    def squares(self, target: Any, g: Array) -> Array:
        """|g|^2 |a|^2; over leading axes the sum of (g_s . g_t)(a_s . a_t), or of squared rows: what is faster."""
        g = _steps(g)
        if target == "bias":
            return _squared(g if g.ndim == 2 else g.sum(1))
        if g.ndim == 2:
            return _squared(g) * _squared(self._a)
        ways = {"gram": lambda: _gram(g, self._a), "rows": lambda: super(Linear, self).squares(target, g)}
        return fastest_of(("linear", g.shape, self._a.shape, g.dtype, g.device), ways)

    def total(self, target: Any, g: Array) -> Array:
        """One product of matrices."""
        g = g.flatten(0, -2)
        return g.sum(0) if target == "bias" else g.mT @ self._a.flatten(0, -2)

    def total_of_squares(self, target: Any, g: Array) -> Array:
        """Squares of outer products are outer products of squares."""
        g = _steps(g)
        if target == "bias":
            return (g if g.ndim == 2 else g.sum(1)).square().sum(0)
        if g.ndim == 2:
            return g.square().mT @ self._a.square()
        return super().total_of_squares(target, g)


def _steps(tensor: Array) -> Array:
    """`(n, features)`, or `(n, t, features)` with all leading axes of a sample in one, of more than one entry."""
    if tensor.ndim == 2:
        return tensor
    steps = tensor.flatten(1, -2)
    return steps[:, 0] if steps.shape[1] == 1 else steps


def _write_sum(g: Array, out: Array, add: bool) -> None:
    total = g if g.ndim == 2 else g.sum(1)
    if add:
        out += total
    else:
        out.copy_(total)


def _write_outer(g: Array, a: Array, out: Array, add: bool) -> None:
    columns, rows = g[:, :, None], a[:, None, :]
    if add:
        torch.addcmul(out, columns, rows, out=out)
    else:
        torch.mul(columns, rows, out=out)


def _write_product(g: Array, a: Array, out: Array, add: bool) -> None:
    if add:
        torch.baddbmm(out, g.mT, a, out=out)
    else:
        torch.bmm(g.mT, a, out=out)


def _squared(rows: Array) -> Array:
    return torch.linalg.vector_norm(rows, dim=1).square_()


def _gram(g: Array, a: Array) -> Array:
    """Squared norms of the rows sum_t g_t a_t^T (Li et al. 2022, arXiv:2110.05679, section 4)."""
    return torch.linalg.vecdot((g @ g.mT).flatten(1), (a @ a.mT).flatten(1)).clamp_(min=0)


LINEAR = Rule(("input", "weight", "bias"), ("weight", "bias"), Linear, not_last)
