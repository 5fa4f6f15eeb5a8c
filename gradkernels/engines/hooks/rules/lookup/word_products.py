"""Inner products of samples' rows of a table, from the words that both name: a table's rows are never formed.

Words that few samples name are multiplied with each other word by word, those of about as many samples together; for
words that many samples name, all samples are multiplied, a few words at a time.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from gradkernels.backend import Array
from gradkernels.engines.hooks.rules.lookup.sample_words import SampleWords
from gradkernels.engines.hooks.symmetric import products_of_rows

MANY = 4
"""A word that more than one in so many samples name is multiplied for all."""

WORD_PRODUCT_BYTES = 1 << 22
"""Of factors and their products at a time."""


def products_over_words(occurring: SampleWords, sums: Array, n: int) -> Array:
    """Sum s_iw . s_jw over the words w of each two samples, `(n, n)`.

    Args:
        occurring: The entries (sample, word).
        sums: s of each entry, `(entries, width)`.
        n: Number of samples.
    """
    order = occurring.word.argsort(stable=True)
    _, counts = torch.unique_consecutive(occurring.word[order], return_counts=True)
    starts = counts.cumsum(0) - counts
    # A place more, for samples that do not name a word.
    out = sums.new_zeros((n + 1) ** 2)
    samples = torch.cat([occurring.sample[order], occurring.sample.new_full((1,), n)])
    padded = torch.cat([sums[order], sums.new_zeros((1, sums.shape[1]))])
    often = counts * MANY > n
    for first, of_each in _alike(starts[~often], counts[~often], sums):
        steps = torch.arange(int(of_each.max()), device=sums.device)
        entries = torch.where(steps < of_each[:, None], first[:, None] + steps, len(sums))
        factors, of = padded[entries], samples[entries]
        pairs = of[:, :, None] * (n + 1) + of[:, None, :]
        out.index_add_(0, pairs.flatten(), (factors @ factors.mT).flatten())
    found = out.view(n + 1, n + 1)[:n, :n].contiguous()
    for first, of_each in _few(starts[often], counts[often], n, sums):
        slots = torch.arange(len(first), device=sums.device).repeat_interleave(of_each)
        entries = torch.arange(len(slots), device=sums.device) + (first - (of_each.cumsum(0) - of_each))[slots]
        rows = sums.new_zeros((n, len(first), sums.shape[1]))
        rows[samples[entries], slots] = padded[entries]
        found += products_of_rows(rows.flatten(1))
    return found


def _alike(starts: Array, counts: Array, sums: Array) -> Iterator[tuple[Array, Array]]:
    """Yield words of about as many samples each, a few at a time: where their entries start, and how many there are."""
    sides = 2 ** torch.ceil(torch.log2(counts.double())).long()
    for side in torch.unique(sides).tolist():
        of = (sides == side).nonzero().flatten()
        size = max(1, WORD_PRODUCT_BYTES // (side * (sums.shape[1] + 3 * side) * sums.element_size()))
        for some in of.split(size):
            yield starts[some], counts[some]


def _few(starts: Array, counts: Array, n: int, sums: Array) -> Iterator[tuple[Array, Array]]:
    """Yield words, as many at a time as there is memory for with all samples."""
    size = max(1, WORD_PRODUCT_BYTES // max(1, n * sums.shape[1] * sums.element_size()))
    yield from zip(starts.split(size), counts.split(size), strict=True)
