"""Linear maps of any leading axes: rows are outer products (Goodfellow 2015, arXiv:1510.01799)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch

from gradkernels.backend import Array
from gradkernels.engines.hooks.parameter_use import ParameterUse
from gradkernels.engines.hooks.precision import squared_row_norms, sum_dtype, sum_of_squares, weighted_rows, widen
from gradkernels.engines.hooks.rules.autotune import TRIAL_SAMPLES, fastest_of, is_recording
from gradkernels.engines.hooks.rules.blocks import write_or_add
from gradkernels.engines.hooks.rules.linear import outer_products
from gradkernels.engines.hooks.rules.linear.gram import (
    cheaper_products,
    cheaper_ways,
    products_of_samples,
    squared_norms_by_steps,
)
from gradkernels.engines.hooks.rules.linear.outer_products import steps_of, sums_over_steps
from gradkernels.engines.hooks.rules.rule import LayerRule, NamedArguments, Targets, not_last, transposed_parameter
from gradkernels.engines.hooks.symmetric import products_of_rows


class Linear(ParameterUse):
    """y = a weight^T + bias; with further leading axes a row is the sum of their outer products.

    Attributes:
        flipped: Whether the weight is `(i, o)`, as in y = a weight.

    Args:
        targets: `weight` `(o, i)` and `bias` `(o,)`, where they are to be differentiated by.
        a: Input, `(n, ..., i)`.
        flipped: Whether the weight is `(i, o)`, as in y = a weight.
    """

    def __init__(self, targets: Targets, a: Array, flipped: bool = False) -> None:
        self.targets = targets
        self._a, self.flipped = steps_of(a), flipped

    def factors(self, g: Array) -> tuple[Array, Array]:
        """Return `(n, [t,] rows)` and `(n, [t,] columns)`, whose outer products are summed to a row of the weight."""
        g = steps_of(g)
        return (self._a, g) if self.flipped else (g, self._a)

    def write(self, target: Any, g: Array, out: Array, at: slice, add: bool) -> None:
        """Write g_i a_i^T, summed over the leading axes of a sample.

        Args:
            target: Key of the target.
            g: Gradient of the output, `(n, ...)`.
            out: Memory for the rows of samples `at`.
            at: Which samples.
            add: Whether to add to what is there.
        """
        if target == "bias":
            write_or_add(out, sums_over_steps(g[at]), add)
            return
        rows, columns = (factor[at] for factor in self.factors(g))
        outer_products.write_outer_rows(rows, columns, out, add)

    def joint_squared_norms(self, places: Sequence[Any], g: Array) -> Array:
        """Return |g|^2 (|a|^2 + 1) for weight and bias."""
        g = steps_of(g)
        if g.ndim == 2 and len(places) == 2:
            of_g = squared_row_norms(g)
            return torch.addcmul(of_g, of_g, squared_row_norms(self._a))
        return super().joint_squared_norms(places, g)

    def each_squared_norms(self, places: Sequence[Any], g: Array) -> dict[Any, Array]:
        """Return the squared norms of several targets, |g|^2 |a|^2 for the weight and |g|^2 for the bias."""
        g = steps_of(g)
        if g.ndim == 2 and len(places) == 2:
            of_g = squared_row_norms(g)
            return {"weight": of_g * squared_row_norms(self._a), "bias": of_g}
        return super().each_squared_norms(places, g)

    def squared_norms(self, target: Any, g: Array) -> Array:
        """Return |g|^2 |a|^2; with leading axes what is faster, sums of (g_s . g_t)(a_s . a_t) or of squared rows."""
        g = steps_of(g)
        if target == "bias":
            return squared_row_norms(sums_over_steps(g))
        if g.ndim == 2:
            return squared_row_norms(g) * squared_row_norms(self._a)
        found = {"gram": partial(self._by_products, target), "rows": partial(super().squared_norms, target)}
        ways = {name: found[name] for name in cheaper_ways(g.shape[1], g.shape[2], self._a.shape[2])}
        return fastest_of(("linear", g.shape, self._a.shape, g.dtype, g.device), ways, (g,), (g[:TRIAL_SAMPLES],))

    def _by_products(self, target: Any, g: Array) -> Array:
        """Return squared norms of rows sum_t g_t a_t^T by products of steps; of all samples or the first ones."""
        squares, of_terms = squared_norms_by_steps(g, self._a[: len(g)])
        if is_recording():
            return squares.clamp_(min=0).to(sum_dtype(g.dtype))
        return self.replace_cancelled(target, g, squares, of_terms)

    def along(self, target: Any, g: Array, directions: Array) -> Array:
        """Return the inner products of the rows with directions: g . (V a), summed over steps.

        Args:
            target: Key of the target.
            g: Gradient of the output, `(n, ...)`.
            directions: `(k, *target.tensor.shape)`.
        """
        if target == "bias":
            return widen(sums_over_steps(g)) @ directions.mT
        rows, columns = map(widen, self.factors(g))
        if rows.ndim == 3 and len(directions) > 1:  # rows are formed once, V a for each direction
            return super().along(target, g, directions)
        return torch.stack([(rows * (columns @ one.mT)).flatten(1).sum(1) for one in directions], 1)

    def projected_factors(self, target: Any, g: Array, outputs: Array, inputs: Array) -> tuple[Array, Array] | None:
        """Return each step's factors, multiplied by the matrices.

        Args:
            target: Key of the target.
            g: Gradient of the output, `(n, ...)`.
            outputs: `(k, o)`.
            inputs: `(l, i)`.
        """
        if target == "bias":
            return None
        rows, columns = (widen(factor if factor.ndim == 3 else factor[:, None]) for factor in self.factors(g))
        return rows @ outputs.T, columns @ inputs.T

    def gram(self, target: Any, g: Array) -> Array:
        """Return the inner products of rows: (g_i . g_j)(a_i . a_j); with steps their sums or rows, what is faster."""
        if target == "bias":
            return products_of_rows(widen(sums_over_steps(g)))
        rows, columns = map(widen, self.factors(g))
        if rows.ndim == 2:
            return products_of_samples(rows, columns)

        def by_steps(rows: Array, columns: Array) -> Array:
            found = products_of_samples(rows, columns)
            return outer_products.gram_by_rows(rows, columns) if self.cancels(target, g, found.diagonal()) else found

        found = {"steps": by_steps, "rows": outer_products.gram_by_rows}
        n, steps, o = rows.shape
        ways = {name: found[name] for name in cheaper_products(n, steps, o, columns.shape[2])}
        return fastest_of(("gram", rows.shape, columns.shape, rows.dtype, rows.device), ways, (rows, columns))

    def joint_gram(self, places: Sequence[Any], g: Array) -> Array:
        """Return the inner products of rows of several targets: (g_i . g_j)(a_i . a_j + 1) for weight and bias."""
        g = steps_of(g)
        if g.ndim == 2 and len(places) == 2:
            return products_of_samples(widen(g), widen(self._a), more=1)
        return super().joint_gram(places, g)

    def add_by_group(self, target: Any, g: Array, groups: Array, out: Array) -> None:
        """Add each row to the sum of its group: of the weight one product for each group, where there are few.

        Args:
            target: Key of the target.
            g: Gradient of the output, `(n, ...)`.
            groups: Number of each sample's group, `(n,)`.
            out: Sums, `(count, *target.tensor.shape)`.
        """
        if target == "bias" or not outer_products.added_by_group(*self.factors(g), groups, out):
            super().add_by_group(target, g, groups, out)

    def small_rows(self, target: Any, g: Array) -> Array | None:
        """Return sums over steps: of the bias always, of the weight where there are more steps than it is wide."""
        rows, columns = self.factors(g)
        if rows.ndim == 2:
            return None
        if target == "bias":
            return sums_over_steps(g)
        steps, o, i = rows.shape[1], rows.shape[2], columns.shape[2]
        return rows.mT @ columns if o * i <= steps * (o + i) else None

    def squared_norms_of_terms(self, target: Any, g: Array) -> Array:
        """Sum |g_t|^2 |a_t|^2 over steps, for the bias |g_t|^2."""
        of_g, of_a = (widen(steps_of(factor)).square().sum(-1) for factor in (g, self._a))
        terms = of_g if target == "bias" else of_g * of_a
        return terms if terms.ndim == 1 else terms.sum(1)

    def total(self, target: Any, g: Array) -> Array:
        """Return the sum of the rows, one product of matrices."""
        if target == "bias":
            return g.flatten(0, -2).sum(0)
        rows, columns = (factor.flatten(0, -2) for factor in self.factors(g))
        return rows.mT @ columns.to(rows.dtype)  # under autocast the layer has cast its input

    def weighted_total(self, target: Any, g: Array, weights: Array) -> Array:
        """Return the weighted sum of the rows, of which the narrower factor is multiplied by the weights.

        Args:
            target: Key of the target.
            g: Gradient of the output, `(n, ...)`.
            weights: `(n,)`.
        """
        if g.dtype is not weights.dtype or (target == "bias" and g.ndim > 2):
            return super().weighted_total(target, g, weights)
        return weights @ g if target == "bias" else outer_products.weighted_sum(self.factors(g), weights)

    def weighted_totals(self, target: Any, g: Array, weights: Array) -> Array:
        """Return the sums of the rows by each weighting: one product of matrices, or rows where many steps are in one.

        Args:
            target: Key of the target.
            g: Gradient of the output, `(n, ...)`.
            weights: `(n, k)`.
        """
        if target == "bias":
            return weighted_rows(sums_over_steps(g), weights)
        return outer_products.weighted_sums(self.factors(g), weights)

    def total_of_squares(self, target: Any, g: Array) -> Array:
        """Return the sum of the squared rows: squares of outer products are outer products of squares."""
        if target == "bias":
            return sum_of_squares(sums_over_steps(g))
        rows, columns = self.factors(g)
        if rows.ndim == 2:
            return widen(rows).square().mT @ widen(columns).square()
        return super().total_of_squares(target, g)

    def total_of_squared_deviations(self, target: Any, g: Array, mean: Array) -> Array:
        """Return the sum of the squares of the rows less `mean`; without rows where there are dtypes with more digits.

        Sum (r - m)^2 = sum r^2 - 2 m sum r + n m^2, whose terms cancel: float64 has the digits for it that float32 and
        half precision have not, more than rows that are rounded to those.

        Args:
            target: Key of the target.
            g: Gradient of the output, `(n, ...)`.
            mean: Of the rows, of the target's shape.
        """
        if not self.expands_deviations(target, g):
            return super().total_of_squared_deviations(target, g, mean)
        rows, columns = (factor.double() for factor in self.factors(g))
        of_squares, of_rows, mean = rows.square().mT @ columns.square(), rows.mT @ columns, mean.double()
        return (of_squares - mean * (2 * of_rows - len(rows) * mean)).clamp_(min=0).to(sum_dtype(g.dtype))

    def expands_deviations(self, target: Any, g: Array) -> bool:
        """Return whether deviations from a mean need no rows: of a weight with one step, in less than float64."""
        return target != "bias" and steps_of(g).ndim == 2 and g.dtype is not torch.float64


def _linear(targets: Targets, a: Array, given: NamedArguments) -> Linear:
    """Make a linear map with the weight as it is, or with the parameter that it is the transpose of."""
    weight = targets.get("weight")
    whole = None if weight is None else transposed_parameter(weight)
    return Linear(targets, a) if whole is None else Linear({**targets, "weight": whole}, a, flipped=True)


LINEAR = LayerRule(("input", "weight", "bias"), ("weight", "bias"), _linear, not_last)
