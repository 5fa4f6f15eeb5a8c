"""How the gradients of a batch's loss, at the model's output, stand to those of its samples' own losses.

Each is the other's share, or that times a factor, or has another direction: then samples are compared with each other.
"""

from __future__ import annotations

import torch

from gradkernels.backend import Array
from gradkernels.names import counted

TOLERANCE_BY_BYTES = {8: 1e-7, 4: 1e-3, 2: 0.03}
"""Difference allowed relative to a sample's gradient, by the bytes of an entry of the output."""

ROUNDING_BY_BYTES = {8: 1e-12, 4: 1e-5, 2: 0.02}
"""Size relative to the largest gradient of a sample below which all may be rounding, by the bytes of an entry."""


class MixesSamples(ValueError):
    """The loss of a batch is no weighting of those of its samples."""


REFUSED = (
    "loss_fn of a batch is no weighted mean of the losses of its samples: {}. Losses that compare samples with each "
    "other do that (in-batch contrastive losses, a dice or a correlation over the batch, distances to batch means); no "
    "sample has a gradient of its own in them. Pass a loss of single samples, with what they are compared to in y; "
    "or mixing='own' to the ModuleProblem, if the loss of a batch of one is meant"
)


def compare_output_gradients(reduction: str, digits: int, batch: list[Array], own: list[Array]) -> str:
    """Say how a batch's loss weighs its samples, which is to be warned about; nothing where it does not.

    Args:
        reduction: What the batch's loss is of its samples' own: their `mean` or `sum`.
        digits: Bytes of an entry of what the model gives.
        batch: Its gradients by the model's outputs, each `(n, ...)`.
        own: Those of the sum of the samples' own losses.

    Raises:
        MixesSamples: It is no weighting of them.
    """
    n, allowed = len(batch[0]), TOLERANCE_BY_BYTES[digits]
    g, t = _flat(batch), _flat(own) / (n if reduction == "mean" else 1)
    size, wanted = g.norm(dim=1), t.norm(dim=1)
    if not size.isfinite().all():
        return ""
    alone = wanted.isfinite()  # which no loss of ignored targets alone is
    t, wanted = torch.where(alone[:, None], t, 0.0), torch.where(alone, wanted, 0.0)
    none = ROUNDING_BY_BYTES[digits] * torch.cat([size, wanted]).max()
    counted = wanted > none
    factor = torch.where(counted, (g * t).sum(1) / wanted.square(), 0.0)
    off = (g - factor[:, None] * t).norm(dim=1) > allowed * size + none
    _refuse(off & ~alone, "alone, the loss of sample {} has no finite gradient at the model's output")
    _refuse(off, "sample {}'s gradient at the model's output has another direction than that of its own loss")
    _refuse(factor < -allowed, "sample {}'s gradient at the model's output is opposite to that of its own loss")
    if not ((g - t).norm(dim=1) > allowed * wanted + none)[counted].any():
        return ""
    low, high = factor[counted].aminmax()
    return (
        f"loss_fn of this batch of {n} weighs its samples: their gradients at the model's output are {low:.3g} to "
        f"{high:.3g} times those in the {reduction} of their own losses (token means over a padded batch, class "
        "weights, ignored targets and roots of means do that), so that loss_fn(...).backward() is off by "
        f"{(g - t)[alone].norm() / g.norm():.1%} there"
    )


def compare_losses(reduction: str, batch: Array, own: Array) -> str:
    """Compare by values, where no gradients can be had: a weighted mean lies among what it is a mean of.

    Args:
        reduction: What the batch's loss is of its samples' own.
        batch: The loss of a batch.
        own: That of each of its samples, `(n,)`.

    Raises:
        MixesSamples: It does not lie among them.
    """
    n = len(own)
    share = 1 if reduction == "mean" else n
    low, middle, high = (share * float(one) for one in (own.min(), own.mean(), own.max()))
    value, allowed = float(batch), TOLERANCE_BY_BYTES[own.element_size()] * share * float(own.abs().max())
    if abs(value - middle) <= allowed:
        return ""
    if not low - allowed <= value <= high + allowed:
        alone = f"those of each alone {low / share:.4g} to {high / share:.4g}"
        says = f"that of {counted(n, 'sample')} is {value:.4g}, {alone}"
        raise MixesSamples(REFUSED.format(says))
    return (
        f"the model weighs its samples: its loss of {n} of this batch is {value:.4g}, the {reduction} of their own "
        f"{middle:.4g}, {abs(value - middle) / max(abs(value), 1e-30):.1%} off (token means over a padded batch, class "
        "weights and ignored targets do that)"
    )


def _flat(tensors: list[Array]) -> Array:
    """Return all entries of each sample, `(n, entries)`, float64."""
    return torch.cat([one.reshape(len(one), one[0].numel()).double() for one in tensors], 1)


def _refuse(wrong: Array, sentence: str) -> None:
    if wrong.any():
        raise MixesSamples(REFUSED.format(sentence.format(int(wrong.nonzero()[0]))))
