"""One use of parameters: what a boundary keeps, and what it makes of its output's gradient."""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch

from gradkernels.backend import Array
from gradkernels.engines.hooks import precision
from gradkernels.engines.hooks.arguments import ArgPath
from gradkernels.engines.hooks.precision import row_matrix, squared_row_norms, sum_of_squares, weighted_rows, widen
from gradkernels.engines.hooks.symmetric import products_of_rows

CANCELLATION = 1e-2
"""Of the squared norms of its terms: a row that cancels more than that loses digits in a sum of their products."""

ALL_SAMPLES = slice(None)

ROW_BLOCK_BYTES = 1 << 20
"""Of rows that are formed only to be squared or summed: what a core's own cache holds."""


@dataclass(frozen=True)
class ParameterTensor:
    """A tensor made from parameters that a boundary takes.

    Attributes:
        tensor: It, of any shape.
        names: The parameters behind it.
        direct: Whether it is the parameter of that name itself.
        whole: The first of the parameters behind it.
        block: Where its entries are among those of the parameter of that name, if they are that or a contiguous
            part of it.
    """

    tensor: Array
    names: tuple[str, ...]
    direct: bool
    whole: Array | None = None
    block: range | None = None


class ParameterUse(ABC):
    """A boundary that has run forward, waiting for the gradient g of its output.

    Everything about samples comes first: g is `(n, ...)`, and so are rows `(n, *target.tensor.shape)`.

    Attributes:
        targets: By place or name of the argument.
    """

    targets: dict[Any, ParameterTensor]

    @property
    def rule(self) -> ParameterUse:
        """The use by whose rule this one goes: itself, unless it stands for another."""
        return self

    def parts(self, g: Array) -> Sequence[tuple[ParameterUse, Array]]:
        """Return the uses that this one stands for, as a rule itself, each with the gradient of its output."""
        return ((self, g),)

    def like(self, use: ParameterUse) -> ParameterUse:
        """Return a use that was made of this one's, to be called as this one is: itself, unless this stands for one."""
        return use

    @abstractmethod
    def write(self, target: ArgPath | str, g: Array, out: Array, at: slice, add: bool) -> None:
        """Write the rows of samples `at` to `out`, or add them to it.

        Args:
            target: Key of the target.
            g: Gradient of the output, `(n, ...)`.
            out: Memory for the rows of these samples only.
            at: Which samples.
            add: Whether to add to what is there.
        """

    def joint_squared_norms(self, places: Sequence[Any], g: Array) -> Array:
        """Return the squared norms `(n,)` of the rows of several targets together."""
        return sum(self.squared_norms(place, g) for place in places)

    def each_squared_norms(self, places: Sequence[Any], g: Array) -> dict[Any, Array]:
        """Return the squared norms `(n,)` of the rows of several targets, each its own."""
        return {place: self.squared_norms(place, g) for place in places}

    def squared_norms(self, target: ArgPath | str, g: Array) -> Array:
        """Return the squared norm of each row, `(n,)`; without a rule of its own from rows in a scratch buffer."""
        return torch.cat([squared_row_norms(rows) for _, rows in self.row_blocks(target, g)])

    def small_rows(self, target: ArgPath | str, g: Array) -> Array | None:
        """Return the rows where these take no more memory than what they are made of; None where they do."""
        return None

    def lone_rows(self, target: ArgPath | str, g: Array) -> Array | None:
        """Return rows that are dropped before others are formed; None where norms and sums are to be had without."""
        return self.small_rows(target, g)

    def squared_norms_of_terms(self, target: ArgPath | str, g: Array) -> Array:
        """Sum the squared norms of the terms whose sum a row is, `(n,)`; of the row where it has one term."""
        return self.squared_norms(target, g)

    def replace_cancelled(self, target: ArgPath | str, g: Array, squares: Array, of_terms: Array) -> Array:
        """Replace squared norms `(n,)` from products of terms by those of formed rows where the terms cancel.

        Args:
            target: Key of the target.
            g: Gradient of the output, `(n, ...)`.
            squares: Squared norms, overwritten.
            of_terms: Sums of the terms' own squared norms.
        """
        for at in (squares < CANCELLATION * of_terms).nonzero().flatten().tolist():
            squares[at] = squared_norm_of_row([(self, target, g)], at)
        return squares

    def cancels(self, target: ArgPath | str, g: Array, squares: Array) -> bool:
        """Return whether terms cancel in a row, so that products of terms have not its digits.

        Args:
            target: Key of the target.
            g: Gradient of the output, `(n, ...)`.
            squares: Squared norms of the rows `(n,)`, from products of terms.
        """
        return bool((squares < CANCELLATION * self.squared_norms_of_terms(target, g)).any())

    def total(self, target: ArgPath | str, g: Array) -> Array:
        """Return the sum of the rows, of the target's shape."""
        total = widen(torch.zeros_like(self.targets[target].tensor))
        for _, rows in self.row_blocks(target, g):
            total += rows.sum(0, dtype=total.dtype)
        return total

    def weighted_total(self, target: ArgPath | str, g: Array, weights: Array) -> Array:
        """Return the sum of the rows, each times its weight, of the target's shape.

        Args:
            target: Key of the target.
            g: Gradient of the output, `(n, ...)`.
            weights: `(n,)`.
        """
        return self.total(target, precision.times_weights(g, weights))

    def weighted_totals(self, target: ArgPath | str, g: Array, weights: Array) -> Array:
        """Return the sum of the rows by each of several weightings, `(k, *target.tensor.shape)`.

        Args:
            target: Key of the target.
            g: Gradient of the output, `(n, ...)`.
            weights: `(n, k)`.
        """
        if (rows := self.small_rows(target, g)) is not None:
            return weighted_rows(rows, weights)
        if type(self).total is ParameterUse.total:
            return reduce(operator.add, (weighted_rows(some, weights[at]) for at, some in self.row_blocks(target, g)))
        return torch.stack([self.weighted_total(target, g, one) for one in weights.unbind(1)])

    def total_of_squares(self, target: ArgPath | str, g: Array) -> Array:
        """Return the sum of the rows' squared entries, of the target's shape."""
        zeros = widen(torch.zeros_like(self.targets[target].tensor))
        return sum((sum_of_squares(rows) for _, rows in self.row_blocks(target, g)), zeros)

    def total_of_squared_deviations(self, target: ArgPath | str, g: Array, mean: Array) -> Array:
        """Return the sum of the squares of the rows less `mean`.

        Args:
            target: Key of the target.
            g: Gradient of the output, `(n, ...)`.
            mean: Of the rows, of the target's shape.
        """
        total = widen(torch.zeros_like(self.targets[target].tensor))
        for _, rows in self.row_blocks(target, g):
            total += sum_of_squares(widen(rows) - mean)
        return total

    def along(self, target: ArgPath | str, g: Array, directions: Array) -> Array:
        """Return the inner products of the rows with directions, `(n, k)`.

        Args:
            target: Key of the target.
            g: Gradient of the output, `(n, ...)`.
            directions: `(k, *target.tensor.shape)`, in the dtype that sums are taken in.
        """
        columns = directions.reshape(len(directions), -1).mT
        return torch.cat([row_matrix(rows) @ columns for _, rows in self.row_blocks(target, g)])

    def projected_factors(
        self, target: ArgPath | str, g: Array, outputs: Array, inputs: Array
    ) -> tuple[Array, Array] | None:
        """Return `(n, t, k)` and `(n, t, l)`, whose outer products summed over t are the rows between two matrices.

        None where rows are needed for that.

        Args:
            target: Key of the target.
            g: Gradient of the output, `(n, ...)`.
            outputs: `(k, o)`, by which rows `(o, m)` are multiplied from the left.
            inputs: `(l, m)`, by whose transpose they are multiplied from the right.
        """
        return None

    def gram(self, target: ArgPath | str, g: Array) -> Array:
        """Return the inner products of the rows of each two samples, `(n, n)`."""
        tensor = self.targets[target].tensor
        rows = torch.empty((len(g), *tensor.shape), dtype=tensor.dtype, device=tensor.device)
        self.write(target, g, rows, slice(0, len(g)), add=False)
        return products_of_rows(row_matrix(rows))

    def joint_gram(self, places: Sequence[Any], g: Array) -> Array:
        """Return the inner products `(n, n)` of the rows of several targets together."""
        return reduce(operator.add, [self.gram(place, g) for place in places])

    def add_by_group(self, target: ArgPath | str, g: Array, groups: Array, out: Array) -> None:
        """Add each row to the sum of its group.

        Args:
            target: Key of the target.
            g: Gradient of the output, `(n, ...)`.
            groups: Number of each sample's group, `(n,)`.
            out: Sums, `(count, *target.tensor.shape)`, in the dtype that sums are taken in.
        """
        for at, rows in self.row_blocks(target, g):
            out.index_add_(0, groups[at], widen(rows))

    def row_blocks(self, target: ArgPath | str, g: Array) -> Iterator[tuple[slice, Array]]:
        """Yield rows, a few samples at a time, in a buffer that is used again."""
        tensor, n = self.targets[target].tensor, len(g)
        size = max(1, min(n, ROW_BLOCK_BYTES // max(1, tensor.numel() * tensor.element_size())))
        buffer = torch.empty((size, *tensor.shape), dtype=tensor.dtype, device=tensor.device)
        for start in range(0, n, size):
            at = slice(start, min(start + size, n))
            rows = buffer[: at.stop - at.start]
            self.write(target, g, rows, at, add=False)
            yield at, rows


def squared_norm_of_row(terms: Sequence[tuple[ParameterUse, Any, Array]], at: int) -> Array:
    """Return the squared norm of the row of sample `at`, from all uses, targets and gradients that it is the sum of."""
    use, target, _ = terms[0]
    tensor = use.targets[target].tensor
    row = torch.empty((1, *tensor.shape), dtype=tensor.dtype, device=tensor.device)
    for count, (use, target, g) in enumerate(terms):
        use.write(target, g, row, slice(at, at + 1), add=count > 0)
    return squared_row_norms(row)[0]
