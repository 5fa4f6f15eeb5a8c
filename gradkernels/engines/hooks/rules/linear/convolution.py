"""Convolutions in one to three dimensions: rows are products of output gradients with patches of the input.

With the patches that each output entry has seen as columns, a convolution is a linear map with the output's places
as leading axes (Rochette et al. 2019, arXiv:1912.06015, section 2). The other way is to see each sample as channels of
its own: the weight's gradient of one convolution with n times the groups is all rows, and no patch is copied (section 3
there). Norms follow from rows, or from products of places. What is faster depends on the shape, and is measured.
"""

from __future__ import annotations

import copy
import math
import operator
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial, reduce
from typing import Any

import torch

from gradkernels.backend import Array
from gradkernels.engines.hooks.parameter_use import ParameterUse
from gradkernels.engines.hooks.precision import row_matrix, squared_row_norms, sum_dtype, weighted_rows, widen
from gradkernels.engines.hooks.rules.autotune import TRIAL_SAMPLES, fastest_of, is_recording
from gradkernels.engines.hooks.rules.blocks import blocks, write_or_add
from gradkernels.engines.hooks.rules.linear.gram import diagonal, twice_the_digits
from gradkernels.engines.hooks.rules.linear.outer_products import ROW_BYTES
from gradkernels.engines.hooks.rules.linear.patches import Sizes, geometry_of
from gradkernels.engines.hooks.rules.rule import LayerRule, NamedArguments, Targets, samples_first
from gradkernels.engines.hooks.symmetric import products_of_rows

PATCH_BYTES = 1 << 21
"""Of patches at a time: what stays in a core's caches."""

GROUPED_SAMPLES_BYTES = 1 << 22
"""Of input, gradients and rows of the samples that are groups of one convolution."""

FEW_ENTRIES = 8
"""Times as many places as a patch has entries: from here on copies of patches cost more than products of them."""


class Convolution(ParameterUse):
    """A convolution of `(n, [steps,] channels, *places)` by weights `(o, channels / groups, *kernel)`."""

    def __init__(self, targets: Targets, a: Array, given: NamedArguments) -> None:
        self.targets = targets
        self._a, self._geometry = a, geometry_of(given["weight"], given)

    def write(self, target: Any, g: Array, out: Array, at: slice, add: bool) -> None:
        """Write sums over places for the bias, products with the patches for the weight.

        Args:
            target: Key of the target.
            g: Gradient of the output, `(n, ...)`.
            out: Memory for the rows of samples `at`.
            at: Which samples.
            add: Whether to add to what is there.
        """
        g = g[at]
        if target == "weight" and out.is_contiguous() and not add:
            self._write(g, self._a[at], out)
            return
        rows = out.new_empty(out.shape) if target == "weight" else self._shifts(g)
        if target == "weight":
            self._write(g, self._a[at], rows)
        write_or_add(out, rows, add)

    def squared_norms(self, target: Any, g: Array) -> Array:
        """Return the squared norms of the rows; for the weight by what is faster, rows or products of places."""
        if target == "bias":
            return squared_row_norms(self._shifts(g))
        places, entries = self._places(g), self._geometry.entries
        o = self._geometry.shape[0] // self._geometry.groups
        ways = {"groups": self._norms_by_groups, "patches": self._norms_by_patches}
        ways = ways if self._has_many(places) else dict(reversed(ways.items()))
        if not is_recording() and self._geometry.has_runs(self._a):
            ways = {"runs": self._norms_by_runs} | ways
        products, rows = places * (entries + o), entries * o
        if products <= 2 * rows:
            gram = {"gram": self._norms_by_products}
            ways = gram | ways if 2 * products <= rows else ways | gram
        return fastest_of(
            self._key("norms", g, self._a), ways, (g, self._a), (g[:TRIAL_SAMPLES], self._a[:TRIAL_SAMPLES])
        )

    def along(self, target: Any, g: Array, directions: Array) -> Array:
        """Return the inner products of the rows with directions: of g with the convolution by one.

        Args:
            target: Key of the target.
            g: Gradient of the output, `(n, ...)`.
            directions: `(k, *target.tensor.shape)`.
        """
        if target == "bias":
            return widen(self._shifts(g)) @ directions.mT
        if len(directions) > 1:
            return super().along(target, g, directions)
        return (widen(g) * self._geometry.convolved(widen(self._a), directions[0])).flatten(1).sum(1)[:, None]

    def gram(self, target: Any, g: Array) -> Array:
        """Return the inner products of rows, of which as many outputs are formed at a time as take a batch's memory."""
        geometry, channel = self._geometry, g.ndim - len(self._geometry.kernel) - 1
        each = len(g) * geometry.entries * g.element_size()
        size = max(1, max(ROW_BYTES, g.nbytes + self._a.nbytes) // max(1, each))
        if target == "bias" or geometry.groups > 1 or size >= geometry.shape[0]:
            return super().gram(target, g)
        return reduce(operator.iadd, map(self._gram_of_some, g.split(size, channel)))

    def _gram_of_some(self, g: Array) -> Array:
        """Return the inner products of rows over some outputs, whose gradients are given."""
        o = g.shape[g.ndim - len(self._geometry.kernel) - 1]
        some = copy.copy(self)
        some._geometry = replace(self._geometry, shape=(o, *self._geometry.shape[1:]))
        rows = g.new_empty((len(g), *some._geometry.shape))
        some._write(g, self._a, rows)
        return products_of_rows(row_matrix(rows))

    def projected_factors(self, target: Any, g: Array, outputs: Array, inputs: Array) -> tuple[Array, Array] | None:
        """Return each place's g times the one matrix, and the convolution by the other's rows.

        Args:
            target: Key of the target.
            g: Gradient of the output, `(n, ...)`.
            outputs: `(k, o)`.
            inputs: `(l, channels * kernel)`.
        """
        geometry = self._geometry
        if target == "bias" or geometry.groups > 1:
            return None
        seen = geometry.convolved(widen(self._a), inputs.view(len(inputs), *geometry.shape[1:]))
        lines = seen if seen.ndim == len(geometry.shape) else seen.movedim(1, 2)
        return (outputs @ widen(geometry.places(g))).mT, lines.flatten(2).mT

    def small_rows(self, target: Any, g: Array) -> Array | None:
        """Return sums over places, of the weight where these are more than its entries."""
        if target == "bias":
            return self._shifts(g)
        size = math.prod(self._geometry.shape)
        if size > g[:1].numel() + self._a[:1].numel():
            return None
        rows = g.new_empty((len(g), *self._geometry.shape))
        self._write(g, self._a, rows)
        return rows

    def total(self, target: Any, g: Array) -> Array:
        """Return the weight's gradient for the whole batch, by the library's own backward pass."""
        return self._shifts(g).sum(0) if target == "bias" else self._geometry.gradient(g, self._a)

    def weighted_totals(self, target: Any, g: Array, weights: Array) -> Array:
        """Return the sums of the rows by each weighting, from rows, which are formed once.

        Args:
            target: Key of the target.
            g: Gradient of the output, `(n, ...)`.
            weights: `(n, k)`.
        """
        if target == "bias":
            return weighted_rows(self._shifts(g), weights)
        if weights.shape[1] == 1:
            return super().weighted_totals(target, g, weights)
        return reduce(operator.iadd, (weighted_rows(rows, weights[at]) for at, rows in self.row_blocks(target, g)))

    def _shifts(self, g: Array) -> Array:
        """Return the rows of the bias, `(n, o)`."""
        return g.sum(_summed(g, self._geometry.kernel))

    def _places(self, g: Array) -> int:
        return g[0].numel() // self._geometry.shape[0] if len(g) else 1

    def _has_many(self, places: int) -> bool:
        """Return whether there are so many places that copies of their patches are probably too many."""
        return FEW_ENTRIES * places >= self._geometry.entries

    def _key(self, name: str, g: Array, a: Array) -> tuple[Any, ...]:
        """Return what a choice among ways depends on."""
        return "convolution", name, self._geometry, g.shape, a.shape, g.dtype, g.device

    def _write(self, g: Array, a: Array, out: Array) -> None:
        ways: dict[str, Callable[..., None]] = {
            "patches": partial(self._by_patches, places_last=True),
            "places": partial(self._by_patches, places_last=False),
            "groups": self._by_groups,
        }
        if self._has_many(self._places(g)):
            ways = dict(reversed(ways.items()))
        few = g[:TRIAL_SAMPLES], a[:TRIAL_SAMPLES], out[:TRIAL_SAMPLES]
        fastest_of(self._key("rows", g, a), ways, (g, a, out), few)

    def _by_patches(self, g: Array, a: Array, out: Array, places_last: bool) -> None:
        """Write G^T P for each sample and group, a few samples at a time."""
        for part in self._patch_blocks(g):
            patches = self._geometry.patches(a[part], places_last)
            rows = out[part].view(len(patches), -1, self._geometry.entries)
            torch.bmm(self._geometry.places(g[part]), patches, out=rows)

    def _by_groups(self, g: Array, a: Array, out: Array) -> None:
        """Copy the gradients of a convolution whose groups are the samples."""
        for part in self._group_blocks(g, a):
            out[part].copy_(self._geometry.gradients(g[part], a[part]))

    def _norms_by_patches(self, g: Array, a: Array) -> Array:
        def norms(g: Array, a: Array) -> Array:
            return squared_row_norms((self._geometry.places(g) @ self._geometry.patches(a, True)).view(len(g), -1))

        return torch.cat([norms(g[part], a[part]) for part in self._patch_blocks(g)])

    def _norms_by_runs(self, g: Array, a: Array) -> Array:
        def norms(g: Array, a: Array) -> Array:
            return squared_row_norms((self._geometry.places(g) @ self._geometry.runs(a)).view(len(g), -1))

        return torch.cat([norms(g[part], a[part]) for part in self._patch_blocks(g)])

    def _norms_by_groups(self, g: Array, a: Array) -> Array:
        parts = self._group_blocks(g, a)
        return torch.cat([squared_row_norms(self._geometry.gradients(g[part], a[part])) for part in parts])

    def _norms_by_products(self, g: Array, a: Array) -> Array:
        """Return squared norms by products of places, as of steps in a linear map; of all or of the first samples."""
        found = [self._products(g[part], a[part]) for part in self._patch_blocks(g)]
        squares, of_terms = (torch.cat(one) for one in zip(*found, strict=True))
        if is_recording():
            return squares.clamp_(min=0).to(sum_dtype(g.dtype))
        return self.replace_cancelled("weight", g, squares, of_terms)

    def _products(self, g: Array, a: Array) -> tuple[Array, Array]:
        """Return squared norms `(n,)`, and those of the terms that a row is the sum of."""
        columns, rows = twice_the_digits(self._geometry.patches(a, True)), twice_the_digits(self._geometry.places(g))
        of_a, of_g = columns @ columns.mT, rows.mT @ rows
        pairs = (of_a.flatten(1), of_g.flatten(1)), (diagonal(of_a), diagonal(of_g))
        squares, of_terms = (torch.linalg.vecdot(*pair).view(len(g), -1).sum(1) for pair in pairs)
        return squares, of_terms

    def _patch_blocks(self, g: Array) -> Iterator[slice]:
        each = self._geometry.entries * self._geometry.groups * self._places(g) * g.element_size()
        return blocks(len(g), PATCH_BYTES // max(1, each))

    def _group_blocks(self, g: Array, a: Array) -> Iterator[slice]:
        each = g[:1].nbytes + a[:1].nbytes + math.prod(self._geometry.shape) * g.element_size()
        return blocks(len(g), GROUPED_SAMPLES_BYTES // max(1, each))


def _summed(g: Array, kernel: Sizes) -> Sizes:
    """Return the axes of g that a sample's bias does not have."""
    channel = g.ndim - len(kernel) - 1
    return tuple(dim for dim in range(1, g.ndim) if dim != channel)


CONVOLUTION_ARGUMENTS = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
CONVOLUTION = LayerRule(CONVOLUTION_ARGUMENTS, ("weight", "bias"), Convolution, samples_first)
