"""Bags of words: the sum, the mean or the largest entries of the rows of a table that a bag names."""

from __future__ import annotations

from typing import Any

from gradkernels.backend import Array
from gradkernels.engines.hooks.errors import Unfit
from gradkernels.engines.hooks.parameter_use import ParameterUse
from gradkernels.engines.hooks.precision import squared_row_norms, widen
from gradkernels.engines.hooks.rules.lookup.embedding import EmbeddingTable, not_padding, refuse_options
from gradkernels.engines.hooks.rules.rule import LayerRule, NamedArguments, Targets, samples_first

OFFSETS = "embedding_bag with offsets has no axis of samples in its input; pass a bag of each sample, (n, t)"


class MaxEmbeddingBag(ParameterUse):
    """The largest of the entries that the words `(n, t)` of a sample have in each column of a table."""

    def __init__(self, targets: Targets, words: Array, given: NamedArguments) -> None:
        self.targets = targets
        self._one_bag = words.ndim == 2
        table, counts = targets["weight"].tensor.detach(), not_padding(words, given)
        values = table[words]
        self._any = None
        if counts is not None:
            values.masked_fill_(~counts[..., None], -float("inf"))
            self._any = counts.any(-1)[..., None]
        best = values.argmax(-2, keepdim=True)
        self._words = words[..., None].expand(values.shape).gather(-2, best).squeeze(-2)

    def write(self, target: Any, g: Array, out: Array, at: slice, add: bool) -> None:
        """Add g, column by column, to the row of the word that was largest there.

        Args:
            target: Key of the target.
            g: Gradient of the output, `(n, ...)`.
            out: Memory for the rows of samples `at`.
            at: Which samples.
            add: Whether to add to what is there.
        """
        if not add:
            out.zero_()
        g = self._terms(g[at], at)
        out.scatter_add_(1, self._words[at].reshape(g.shape), g)

    def total(self, target: Any, g: Array) -> Array:
        """Return the sum of the rows, in one table."""
        terms = self._terms(g).flatten(0, 1)
        total = terms.new_zeros(self.targets[target].tensor.shape)
        return total.scatter_add_(0, self._words.reshape(terms.shape), terms)

    def squared_norms(self, target: Any, g: Array) -> Array:
        """Return |g|^2 where there is one bag: every column of it has an entry of its own."""
        return squared_row_norms(self._terms(g)) if self._one_bag else super().squared_norms(target, g)

    def total_of_squares(self, target: Any, g: Array) -> Array:
        """Return the total of g^2 where there is one bag."""
        return self.total(target, widen(g).square()) if self._one_bag else super().total_of_squares(target, g)

    def _terms(self, g: Array, at: slice = slice(None)) -> Array:
        """Return the gradients of bags, `(n, bags, width)`, zero for a bag of nothing but padding."""
        g = g if self._any is None else g * self._any[at]
        return g.reshape(len(g), -1, g.shape[-1])


def _factors(words: Array, given: NamedArguments) -> Array | None:
    """Return what each word's row is multiplied by, `(n, [bags,] t)`."""
    factors, counts = given.get("per_sample_weights"), not_padding(words, given)
    if counts is not None:
        counts = counts.to(given["weight"].dtype)
        factors = counts if factors is None else factors * counts
    if given.get("mode", "mean") == "sum":
        return factors
    if counts is None:
        return given["weight"].detach().new_full(words.shape, 1 / words.shape[-1])
    return counts / counts.sum(-1, keepdim=True).clamp_(min=1)


def _bag(targets: Targets, words: Array, given: NamedArguments) -> ParameterUse:
    """Make the use of a table for words `(n, [bags,] t)`."""
    refuse_options("embedding_bag", given)
    if given.get("offsets") is not None:
        raise Unfit(OFFSETS)
    if given.get("mode", "mean") == "max":
        return MaxEmbeddingBag(targets, words, given)
    factors = _factors(words, given)
    return EmbeddingTable(
        targets, words.flatten(1), factors if factors is None else factors.flatten(1), words.shape[-1]
    )


BAG_OPTIONS = ("max_norm", "norm_type", "scale_grad_by_freq", "mode", "sparse")
BAG_ARGUMENTS = ("input", "weight", "offsets", *BAG_OPTIONS, "per_sample_weights", "include_last_offset", "padding_idx")
EMBEDDING_BAG = LayerRule(BAG_ARGUMENTS, ("weight",), _bag, samples_first, beside=("per_sample_weights", "offsets"))
