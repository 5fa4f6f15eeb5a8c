"""Uses of which norms, sums and products are each one operation, run by the hooks' own code."""

from __future__ import annotations

from typing import Any

from gradkernels.backend import Array
from gradkernels.engines.hooks.precision import squared_row_norms, sum_dtype, sum_of_squares
from gradkernels.engines.recorded.uses.plain_uses import RecordedUse
from gradkernels.engines.recorded.uses.whole import run_whole

MOST_OF_OUTPUT, MOST_OF_LONE_OUTPUT = 2, 16
"""Entries of a weight for each of a sample's output, up to which its rows are kept instead of gradients and data.

More where they are dropped at once, since their norms alone decide on their weights.
"""


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

    def along(self, target: Any, g: Array, directions: Array) -> Array:
        """Return the inner products of the rows with directions, `(n, k)`.

        Args:
            target: Key of the target.
            g: Gradient of the output, `(n, ...)`.
            directions: `(k, *target.tensor.shape)`.
        """
        out = g.new_empty((len(g), len(directions)), dtype=sum_dtype(self.targets[target].tensor.dtype))
        run_whole(self.use, "along", target, out, g, directions)
        return out

    def gram(self, target: Any, g: Array) -> Array:
        """Return the inner products of the rows of each two samples, `(n, n)`."""
        out = g.new_empty((len(g), len(g)), dtype=sum_dtype(self.targets[target].tensor.dtype))
        run_whole(self.use, "gram", target, out, g)
        return out

    def add_by_group(self, target: Any, g: Array, groups: Array, out: Array) -> None:
        """Add each row to the sum of its group.

        Args:
            target: Key of the target.
            g: Gradient of the output, `(n, ...)`.
            groups: Number of each sample's group, `(n,)`.
            out: Sums, `(count, *target.tensor.shape)`.
        """
        run_whole(self.use, "add_by_group", target, out, g, groups)

    def weighted_totals(self, target: Any, g: Array, weights: Array) -> Array:
        """Return the sums of the rows by each weighting, `(k, *target.tensor.shape)`.

        Args:
            target: Key of the target.
            g: Gradient of the output, `(n, ...)`.
            weights: `(n, k)`.
        """
        tensor = self.targets[target].tensor
        out = g.new_empty((weights.shape[1], *tensor.shape), dtype=sum_dtype(tensor.dtype))
        run_whole(self.use, "weighted_totals", target, out, g, weights)
        return out


class WholeWeight(WholeUse):
    """A use of which only what is done with the weight is one operation each."""

    def add_by_group(self, target: Any, g: Array, groups: Array, out: Array) -> None:
        """Add each row to the sum of its group.

        Args:
            target: Key of the target.
            g: Gradient of the output, `(n, ...)`.
            groups: Number of each sample's group, `(n,)`.
            out: Sums, `(count, *target.tensor.shape)`.
        """
        add = super().add_by_group if target == "weight" else super(WholeUse, self).add_by_group
        add(target, g, groups, out)


class WholeRows(WholeWeight):
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
        return self._rows_up_to(MOST_OF_OUTPUT, target, g)

    def lone_rows(self, target: Any, g: Array) -> Array | None:
        """Return rows, whose norms and weighted sum take less time than norms without them and another product."""
        return self._rows_up_to(MOST_OF_LONE_OUTPUT, target, g)

    def _rows_up_to(self, most: int, target: Any, g: Array) -> Array | None:
        return None if self.targets[target].tensor.numel() > most * g[:1].numel() else self._rows(target, g)

    def squared_norms(self, target: Any, g: Array) -> Array:
        """Return the squared norms of the rows."""
        return super().squared_norms(target, g) if target == "weight" else squared_row_norms(self._rows(target, g))

    def total_of_squares(self, target: Any, g: Array) -> Array:
        """Return the sum of the squared rows."""
        return super().total_of_squares(target, g) if target == "weight" else sum_of_squares(self._rows(target, g))

    def along(self, target: Any, g: Array, directions: Array) -> Array:
        """Return the inner products of the rows with directions; with one as the use does, if it needs no rows.

        Args:
            target: Key of the target.
            g: Gradient of the output, `(n, ...)`.
            directions: `(k, *target.tensor.shape)`.
        """
        if target != "weight" or (len(directions) == 1 and self._has_own("along")):
            return RecordedUse.along(self, target, g, directions)
        return super().along(target, g, directions)

    def gram(self, target: Any, g: Array) -> Array:
        """Return the inner products of the rows of each two samples, `(n, n)`."""
        return super().gram(target, g) if target == "weight" else RecordedUse.gram(self, target, g)

    def weighted_totals(self, target: Any, g: Array, weights: Array) -> Array:
        """Return the sums of the rows by each weighting.

        Args:
            target: Key of the target.
            g: Gradient of the output, `(n, ...)`.
            weights: `(n, k)`.
        """
        totals = super().weighted_totals if target == "weight" else super(WholeUse, self).weighted_totals
        return totals(target, g, weights)
