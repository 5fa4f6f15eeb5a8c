"""Uses that are recorded as they are, or whole, whatever layer they are of."""

from __future__ import annotations

from typing import Any

from gradkernels.backend import Array
from gradkernels.engines.hooks.parameter_use import ALL_SAMPLES, ParameterUse
from gradkernels.engines.hooks.precision import squared_row_norms, sum_dtype, sum_of_squares, widen
from gradkernels.engines.recorded.uses.whole import run_whole

MOST_OF_OUTPUT = 2
"""Entries of a weight for each of a sample's output, up to which its rows are kept instead of gradients and data."""


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

    def _has_own(self, name: str) -> bool:
        return getattr(type(self.use), name) is not getattr(ParameterUse, name)

    def _rows(self, target: Any, g: Array) -> Array:
        rows = g.new_empty((len(g), *self.targets[target].tensor.shape), dtype=self.targets[target].tensor.dtype)
        self.write(target, g, rows, ALL_SAMPLES, add=False)
        return rows


class WholeUse(RecordedUse):
    """A use, of which norms and sums of squares are each one operation."""

    def squared_norms(self, target: Any, g: Array) -> Array:
        """Return the squared norms of the rows."""
        out = g.new_empty(len(g), dtype=sum_dtype(self.targets[target].tensor.dtype))
        run_whole(self.use, "squared_norms", target, out, g)
        return out

    def total_of_squares(self, target: Any, g: Array) -> Array:
        """Return the sum of the squared rows."""
        tensor = self.targets[target].tensor
        out = g.new_empty(tensor.shape, dtype=sum_dtype(tensor.dtype))
        run_whole(self.use, "total_of_squares", target, out, g)
        return out

    def total_of_squared_deviations(self, target: Any, g: Array, mean: Array) -> Array:
        """Return the sum of the squares of the rows less `mean`.

        Args:
            target: Key of the target.
            g: Gradient of the output, `(n, ...)`.
            mean: Of the rows, of the target's shape.
        """
        tensor = self.targets[target].tensor
        out = g.new_empty(tensor.shape, dtype=sum_dtype(tensor.dtype))
        run_whole(self.use, "total_of_squared_deviations", target, out, g, mean)
        return out


class WholeRows(WholeUse):
    """A use, whose weight's rows are one operation too."""

    def write(self, target: Any, g: Array, out: Array, at: slice, add: bool) -> None:
        """Write rows of all samples by one operation.

        Args:
            target: Key of the target.
            g: Gradient of the output, `(n, ...)`.
            out: Memory for the rows.
            at: All samples.
            add: Whether to add to what is there.
        """
        if target != "weight":
            self.use.write(target, g, out, at, add)
            return
        rows = out.new_empty(out.shape) if add else out
        run_whole(self.use, "write", target, rows, g)
        if add:
            out += rows

    def small_rows(self, target: Any, g: Array) -> Array | None:
        """Return the rows where they are no larger than gradients and data; None where they are."""
        if self.targets[target].tensor.numel() > MOST_OF_OUTPUT * g[:1].numel():
            return None
        return self._rows(target, g)

    def squared_norms(self, target: Any, g: Array) -> Array:
        """Return the squared norms of the rows."""
        return super().squared_norms(target, g) if target == "weight" else squared_row_norms(self._rows(target, g))

    def total_of_squares(self, target: Any, g: Array) -> Array:
        """Return the sum of the squared rows."""
        return super().total_of_squares(target, g) if target == "weight" else sum_of_squares(self._rows(target, g))
