"""Uses whose rows are no larger than a sample's output: they are formed, and then summed or squared."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from gradkernels.backend import Array
from gradkernels.engines.hooks.parameter_use import ALL_SAMPLES, ParameterTensor, ParameterUse
from gradkernels.engines.hooks.precision import squared_row_norms, sum_of_squares, widen
from gradkernels.engines.hooks.rules.blocks import write_or_add


class MaterializedUse(ParameterUse):
    """A use whose rows are cheap to form."""

    @abstractmethod
    def rows(self, target: Any, g: Array, at: slice) -> Array:
        """Return the rows of samples `at`, from the gradients of these samples.

        Args:
            target: Key of the target.
            g: Gradient of the output, for samples `at`.
            at: Which samples.
        """

    def write(self, target: Any, g: Array, out: Array, at: slice, add: bool) -> None:
        """Write the rows, as they are.

        Args:
            target: Key of the target.
            g: Gradient of the output, `(n, ...)`.
            out: Memory for the rows of samples `at`.
            at: Which samples.
            add: Whether to add to what is there.
        """
        rows = self.rows(target, g[at], at)
        write_or_add(out, rows, add)

    def squared_norms(self, target: Any, g: Array) -> Array:
        """Return the squared norms of the formed rows."""
        return squared_row_norms(self.rows(target, g, ALL_SAMPLES))

    def small_rows(self, target: Any, g: Array) -> Array | None:
        """Return the rows, if they are no larger than the gradients."""
        return self.rows(target, g, ALL_SAMPLES) if self.targets[target].tensor.numel() <= g[:1].numel() else None

    def total(self, target: Any, g: Array) -> Array:
        """Return the sum of the formed rows."""
        return widen(self.rows(target, g, ALL_SAMPLES)).sum(0)

    def total_of_squares(self, target: Any, g: Array) -> Array:
        """Return the sum of the squares of the formed rows."""
        return sum_of_squares(self.rows(target, g, ALL_SAMPLES))


class FormedRows(MaterializedUse):
    """Rows that are what arrives.

    Args:
        target: Whose rows they are.
    """

    def __init__(self, target: ParameterTensor) -> None:
        self.targets = {"rows": target}

    def rows(self, target: Any, g: Array, at: slice) -> Array:
        """Return what has arrived.

        Args:
            target: Key of the target.
            g: The rows of samples `at`.
            at: Which samples.
        """
        return g
