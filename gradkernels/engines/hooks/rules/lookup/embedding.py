"""Tables of vectors: a row of the table has a gradient only where the sample names it.

An entry (sample, word) occurs once for every time that the sample names the word; its gradient is the sum over these.
"""

from __future__ import annotations

from typing import Any

import torch

from gradkernels.backend import Array
from gradkernels.engines.hooks.errors import Unfit
from gradkernels.engines.hooks.parameter_use import ALL_SAMPLES, ParameterUse
from gradkernels.engines.hooks.precision import squared_row_norms, widen
from gradkernels.engines.hooks.rules.autotune import fastest_of, is_recording
from gradkernels.engines.hooks.rules.lookup.sample_words import distinct_sample_words, sample_word_keys
from gradkernels.engines.hooks.rules.lookup.word_products import products_over_words
from gradkernels.engines.hooks.rules.rule import LayerRule, NamedArguments, Targets, any_axis

MOST_PAIRED_WORDS = 512
"""Of a sample, whose pairs are looked at: their number grows with the square."""


def refuse_options(name: str, given: NamedArguments) -> None:
    """Raise an Unfit for options that no sample has a gradient of its own with."""
    if given.get("max_norm") is not None:
        raise Unfit(f"{name} with max_norm changes its weights in the forward pass; use max_norm=None")
    if given.get("scale_grad_by_freq", False):
        raise Unfit(f"{name} with scale_grad_by_freq divides by how often the batch names a word; leave it out")


def add_terms(rows: Array, words: Array, terms: Array) -> None:
    """Add terms to the rows of a table for each sample.

    Args:
        rows: `(n, size, width)`, added to.
        words: `(n, t)`.
        terms: `(n, t, width)`.
    """
    if rows.is_contiguous():
        rows.view(-1, rows.shape[2]).index_add_(0, sample_word_keys(words, rows.shape[1]), terms.flatten(0, 1))
    else:
        samples = torch.arange(len(words), device=words.device)[:, None]
        rows.index_put_((samples, words), terms, accumulate=True)


class EmbeddingTable(ParameterUse):
    """Rows of a table `(size, width)`, for words `(n, t)`.

    Attributes:
        words: `(n, t)`.
        factors: Of each of them, or None.
        one_bag: Whether all words of a sample are summed to one output.

    Args:
        targets: The table, as `weight`.
        words: `(n, t)`.
        factors: Of each of them, `(n, t)`; 1 without.
        per_bag: Number of words that are summed to one output.
    """

    def __init__(self, targets: Targets, words: Array, factors: Array | None, per_bag: int = 1) -> None:
        self.targets = targets
        self.words, self.factors, self._per_bag = words, factors, per_bag
        self._size = len(targets["weight"].tensor)
        self.one_bag = 1 < per_bag == words.shape[1]

    def write(self, target: Any, g: Array, out: Array, at: slice, add: bool) -> None:
        """Add each place's g to its word's row.

        Args:
            target: Key of the target.
            g: Gradient of the output, `(n, ...)`.
            out: Memory for the rows of samples `at`.
            at: Which samples.
            add: Whether to add to what is there.
        """
        if not add:
            out.zero_()
        add_terms(out, self.words[at], self.terms(g[at], at))

    def squared_norms(self, target: Any, g: Array) -> Array:
        """Return what is faster: squares of each entry's sum, or sums of g_s . g_t over places of the same word."""
        if self.one_bag:
            return self._of_one_bag(g)
        terms = widen(self.terms(g))
        ways = {"gram": lambda: self._by_products(target, g, terms), "entries": lambda: self._by_entries(terms)}
        if terms.shape[1] > MOST_PAIRED_WORDS and not is_recording():
            del ways["gram"]
        return fastest_of(("embedding", self._size, terms.shape, terms.dtype, g.device), ways)

    def along(self, target: Any, g: Array, directions: Array) -> Array:
        """Return the inner products of the rows with directions: of each place's g with its word's row of one.

        Args:
            target: Key of the target.
            g: Gradient of the output, `(n, ...)`.
            directions: `(k, *target.tensor.shape)`.
        """
        terms = widen(self.terms(g))
        return torch.stack([(terms * one[self.words]).flatten(1).sum(1) for one in directions], 1)

    def projected_factors(self, target: Any, g: Array, outputs: Array, inputs: Array) -> tuple[Array, Array] | None:
        """Return the column of each place's word, and its g times the other matrix.

        Args:
            target: Key of the target.
            g: Gradient of the output, `(n, ...)`.
            outputs: `(k, size)`.
            inputs: `(l, width)`.
        """
        return outputs.T[self.words], widen(self.terms(g)) @ inputs.T

    def gram(self, target: Any, g: Array) -> Array:
        """Return the inner products of rows, from the sums of each entry.

        Args:
            target: Key of the target.
            g: Gradient of the output, `(n, ...)`.
        """
        occurring = distinct_sample_words(self.words, self._size)
        sums = occurring.sums(widen(self.terms(g)).flatten(0, 1))
        if not sums.isfinite().all():  # what is not finite reaches samples that name other words too
            return super().gram(target, g)
        return products_over_words(occurring, sums, len(self.words))

    def add_by_group(self, target: Any, g: Array, groups: Array, out: Array) -> None:
        """Add each place's g to its word's row of its group's table.

        Args:
            target: Key of the target.
            g: Gradient of the output, `(n, ...)`.
            groups: Number of each sample's group, `(n,)`.
            out: Sums, `(count, *target.tensor.shape)`.
        """
        if not out.is_contiguous():
            super().add_by_group(target, g, groups, out)
            return
        places = (self.words + groups[:, None] * self._size).flatten()
        out.view(-1, out.shape[2]).index_add_(0, places, widen(self.terms(g)).flatten(0, 1))

    def squared_norms_of_terms(self, target: Any, g: Array) -> Array:
        """Sum |g_t|^2 over places."""
        return squared_row_norms(self.terms(g))

    def total(self, target: Any, g: Array) -> Array:
        """Add each place's g to its word's row of one table."""
        g = widen(self.terms(g))
        return g.new_zeros(self._size, g.shape[2]).index_add_(0, self.words.flatten(), g.flatten(0, 1))

    def total_of_squares(self, target: Any, g: Array) -> Array:
        """Add the squares of each entry's sum to its word's row of one table."""
        g, occurring = widen(self.terms(g)), distinct_sample_words(self.words, self._size)
        sums = occurring.sums(g.flatten(0, 1))
        return g.new_zeros(self._size, g.shape[2]).index_add_(0, occurring.word, sums.square_())

    def _by_products(self, target: Any, g: Array, terms: Array) -> Array:
        same = self.words[:, :, None] == self.words[:, None, :]
        digits = terms.double() if is_recording() else terms
        squares = (digits @ digits.mT).mul_(same).flatten(1).sum(1)
        if is_recording():
            return squares.clamp_(min=0).to(terms.dtype)
        return self.replace_cancelled(target, g, squares, squared_row_norms(terms))

    def _by_entries(self, g: Array) -> Array:
        occurring = distinct_sample_words(self.words, self._size)
        squares = occurring.sums(g.flatten(0, 1)).square_().sum(1)
        return g.new_zeros(len(g)).index_add_(0, occurring.sample, squares)

    def _of_one_bag(self, g: Array) -> Array:
        """Return |g|^2 times the sum over words of their squared factors."""
        occurring = distinct_sample_words(self.words, self._size)
        factors = g.new_ones(self.words.shape) if self.factors is None else self.factors
        squares = occurring.sums(widen(factors).flatten()).square_()
        return squares.new_zeros(len(g)).index_add_(0, occurring.sample, squares) * squared_row_norms(g)

    def terms(self, g: Array, at: slice = ALL_SAMPLES) -> Array:
        """Return the gradient of each word, `(n, t, width)`."""
        n, t = self.words[at].shape
        if self._per_bag > 1:
            g = g.reshape(n, -1, 1, g.shape[-1]).expand(-1, -1, self._per_bag, -1)
        g = g.reshape(n, t, g.shape[-1])
        return g if self.factors is None else g * self.factors[at][..., None]


def not_padding(words: Array, given: NamedArguments) -> Array | None:
    """Return which words are not the padding; None if all of them count."""
    index = given.get("padding_idx")
    return None if index is None else words != index % len(given["weight"])


def _embedding(targets: Targets, words: Array, given: NamedArguments) -> EmbeddingTable:
    """Make the use of a table for words `(n, ...)`."""
    refuse_options("embedding", given)
    words = words.reshape(len(words), -1)
    return EmbeddingTable(targets, words, not_padding(words, given))


EMBEDDING_ARGUMENTS = ("input", "weight", "padding_idx", "max_norm", "norm_type", "scale_grad_by_freq", "sparse")
EMBEDDING = LayerRule(EMBEDDING_ARGUMENTS, ("weight",), _embedding, any_axis)
