"""Uses that are recorded as they are, whatever layer they are of."""

from __future__ import annotations

from typing import Any

from gradkernels.backend import Array
from gradkernels.engines.hooks.parameter_use import ALL_SAMPLES, ParameterUse
from gradkernels.engines.hooks.precision import row_matrix, squared_row_norms, sum_of_squares, weighted_rows, widen


class RecordedUse(ParameterUse):
    """A use, whose rows are formed for all samples at once where they are formed to be squared or summed.

    Args:
        use: It.
    """

    def __init__(self, use: ParameterUse) -> None:
        self.use, self.targets = use, use.targets

    @property
    def rule(self) -> ParameterUse:
        """The use."""
        return self.use

    def squared_norms_of_terms(self, target: Any, g: Array) -> Array:
        """Sum the squared norms of the terms of a row, as the use does."""
        return self.use.squared_norms_of_terms(target, g)

    def write(self, target: Any, g: Array, out: Array, at: slice, add: bool) -> None:
        """Write rows as the use does.

        Args:
            target: Key of the target.
            g: Gradient of the output, `(n, ...)`.
            out: Memory for the rows of samples `at`.
            at: Which samples.
            add: Whether to add to what is there.
        """
        self.use.write(target, g, out, at, add)

    def joint_squared_norms(self, places: Any, g: Array) -> Array:
        """Return the squared norms of the rows of several targets together, as the use does."""
        if self._has_own("joint_squared_norms"):
            return self.use.joint_squared_norms(places, g)
        return super().joint_squared_norms(places, g)

    def squared_norms(self, target: Any, g: Array) -> Array:
        """Return the squared norms of the rows, without them if the use can."""
        if self._has_own("squared_norms"):
            return self.use.squared_norms(target, g)
        return squared_row_norms(self._rows(target, g))

    def small_rows(self, target: Any, g: Array) -> Array | None:
        """Return the rows where the use does; None where they are large."""
        return self.use.small_rows(target, g)

    def total(self, target: Any, g: Array) -> Array:
        """Return the sum of the rows, without them if the use can."""
        if self._has_own("total"):
            return self.use.total(target, g)
        return widen(self._rows(target, g)).sum(0)

    def weighted_total(self, target: Any, g: Array, weights: Array) -> Array:
        """Return the weighted sum of the rows as the use does, if it has a way of its own.

        Args:
            target: Key of the target.
            g: Gradient of the output, `(n, ...)`.
            weights: `(n,)`.
        """
        if self._has_own("weighted_total"):
            return self.use.weighted_total(target, g, weights)
        return super().weighted_total(target, g, weights)

    def weighted_totals(self, target: Any, g: Array, weights: Array) -> Array:
        """Return the sums of the rows by each weighting, without rows if the use can.

        Args:
            target: Key of the target.
            g: Gradient of the output, `(n, ...)`.
            weights: `(n, k)`.
        """
        if self._has_own("weighted_totals"):
            return self.use.weighted_totals(target, g, weights)
        if self._has_own("total"):
            return super().weighted_totals(target, g, weights)
        return weighted_rows(self._rows(target, g), weights)

    def total_of_squares(self, target: Any, g: Array) -> Array:
        """Return the sum of the squared rows, without them if the use can."""
        if self._has_own("total_of_squares"):
            return self.use.total_of_squares(target, g)
        return sum_of_squares(self._rows(target, g))

    def total_of_squared_deviations(self, target: Any, g: Array, mean: Array) -> Array:
        """Return the sum of the squares of the rows less `mean`.

        Args:
            target: Key of the target.
            g: Gradient of the output, `(n, ...)`.
            mean: Of the rows, of the target's shape.
        """
        return sum_of_squares(widen(self._rows(target, g)) - mean)

    def along(self, target: Any, g: Array, directions: Array) -> Array:
        """Return the inner products of the rows with directions, `(n, k)`, without rows if the use can.

        Args:
            target: Key of the target.
            g: Gradient of the output, `(n, ...)`.
            directions: `(k, *target.tensor.shape)`.
        """
        if self._has_own("along"):
            return self.use.along(target, g, directions)
        return row_matrix(self._rows(target, g)) @ row_matrix(directions).mT

    def gram(self, target: Any, g: Array) -> Array:
        """Return the inner products of the rows of each two samples, `(n, n)`."""
        rows = row_matrix(self._rows(target, g))
        return rows @ rows.mT

    def projected_factors(self, target: Any, g: Array, outputs: Array, inputs: Array) -> tuple[Array, Array] | None:
        """Return what the use does: factors of rows between two matrices, or None.

        Args:
            target: Key of the target.
            g: Gradient of the output, `(n, ...)`.
            outputs: `(k, o)`.
            inputs: `(l, m)`.
        """
        return self.use.projected_factors(target, g, outputs, inputs)

    def add_by_group(self, target: Any, g: Array, groups: Array, out: Array) -> None:
        """Add each row to the sum of its group.

        Args:
            target: Key of the target.
            g: Gradient of the output, `(n, ...)`.
            groups: Number of each sample's group, `(n,)`.
            out: Sums, `(count, *target.tensor.shape)`.
        """
        if self._has_own("add_by_group"):
            self.use.add_by_group(target, g, groups, out)
        else:
            out.index_add_(0, groups, widen(self._rows(target, g)))

    def _has_own(self, name: str) -> bool:
        return getattr(type(self.use), name) is not getattr(ParameterUse, name)

    def _rows(self, target: Any, g: Array) -> Array:
        rows = g.new_empty((len(g), *self.targets[target].tensor.shape), dtype=self.targets[target].tensor.dtype)
        self.write(target, g, rows, ALL_SAMPLES, add=False)
        return rows
