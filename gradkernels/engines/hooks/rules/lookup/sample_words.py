"""The distinct words of each sample of a table's: over these lengths and sums are taken, never over the whole table."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from gradkernels.backend import Array


@dataclass(frozen=True)
class SampleWords:
    """The distinct entries (sample, word) of words `(n, t)`.

    Attributes:
        words: Number of rows of the table.
        key: Of each of the n t places: sample * words + word.
        known: Each key that occurs, once, in order.
        at: Which of these each place is.
    """

    words: int
    key: Array
    known: Array
    at: Array

    @property
    def sample(self) -> Array:
        """The sample of each entry."""
        return self.known.div(self.words, rounding_mode="floor")

    @property
    def word(self) -> Array:
        """The word of each entry."""
        return self.known % self.words

    def sums(self, terms: Array) -> Array:
        """Sum terms `(n t, ...)` of each place to those of each entry."""
        return terms.new_zeros(len(self.known), *terms.shape[1:]).index_add_(0, self.at, terms)


def sample_word_keys(words: Array, size: int) -> Array:
    """Return the key, sample * size + word, of each place of `(n, t)`."""
    return (words + torch.arange(len(words), device=words.device)[:, None] * size).flatten()


def distinct_sample_words(words: Array, size: int) -> SampleWords:
    """Return the distinct entries of words `(n, t)` of a table with `size` rows."""
    key = sample_word_keys(words, size)
    known, at = torch.unique(key, return_inverse=True)
    return SampleWords(size, key, known, at)
