"""The loss of each sample from a loss function of batches: `loss_fn(output[i:i+1], target[i:i+1])` for every i.

A mean over a batch is not always the mean of these: class weights and ignored targets divide by something else. So
the definition is a batch of one; the losses of torch that are known to be sums of independent terms are computed for
all samples at once, any other by `torch.vmap` or, where that fails, one by one.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

from gradkernels.backend import Array
from gradkernels.tree import Tree, count, each, leaves, take

LossFn = Callable[[Any, Any], Array]
REDUCTIONS = ("mean", "sum")
CLASSES = (
    "MSELoss",
    "L1Loss",
    "SmoothL1Loss",
    "HuberLoss",
    "CrossEntropyLoss",
    "NLLLoss",
    "BCELoss",
    "BCEWithLogitsLoss",
    "SoftMarginLoss",
)
FUNCTIONS = (
    "mse_loss",
    "l1_loss",
    "smooth_l1_loss",
    "huber_loss",
    "cross_entropy",
    "nll_loss",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "soft_margin_loss",
)
IGNORED = -100  # torch's ignore_index where none is given


def unreduced(loss_fn: Any) -> LossFn | None:
    """The same loss with reduction="none", if it is one of torch's without weights; None for any other."""
    from torch import nn
    from torch.nn import functional

    if any(loss_fn is getattr(functional, name) for name in FUNCTIONS):
        return partial(loss_fn, reduction="none")
    if type(loss_fn) in [getattr(nn, name) for name in CLASSES] and getattr(loss_fn, "weight", None) is None:
        plain = copy.copy(loss_fn)
        plain.reduction = "none"
        return plain
    return None


def sample_losses(loss_fn: LossFn, plain: LossFn | None, reduction: str, output: Tree, y: Tree) -> Array:
    """Loss of each sample, `(n,)`.

    Args:
        loss_fn: Of batches.
        plain: `unreduced(loss_fn)`.
        reduction: Of `loss_fn` over the terms of a sample.
        output: The model's, samples first.
        y: Targets, samples first.
    """
    if plain is not None and not _ignores(loss_fn, y):
        terms = plain(output, y)
        if terms.ndim == 1:
            return terms
        terms = terms.flatten(1)
        return terms.mean(1) if reduction == "mean" else terms.sum(1)
    return _one_by_one(loss_fn, output, y)


def _ignores(loss_fn: LossFn, y: Tree) -> bool:
    """Whether targets may be left out of the mean."""
    target = leaves(y)[0]
    if target.is_floating_point():
        return False
    return bool((target == getattr(loss_fn, "ignore_index", IGNORED)).any())


def _one_by_one(loss_fn: LossFn, output: Tree, y: Tree) -> Array:
    import torch
    from torch.utils import _pytree as pytree

    # Models give lists, mappings of their own kind and None as well, which this package's trees do not know.
    tensors, structure = pytree.tree_flatten(output)

    def single(parts: list[Any], y: Tree) -> Array:
        one = [part[None] if isinstance(part, torch.Tensor) else part for part in parts]
        return loss_fn(pytree.tree_unflatten(one, structure), each(lambda array: array[None], y))

    if count(y) == 0:
        return next(part for part in tensors if isinstance(part, torch.Tensor)).new_zeros(0)
    axes = [0 if isinstance(part, torch.Tensor) else None for part in tensors]
    try:
        return torch.vmap(single, in_dims=(axes, 0))(tensors, y)
    except Exception:
        # What vmap has no rule for, a loss that prints or counts: as it is defined then.
        each_alone = ([part if axis is None else part[i] for part, axis in zip(tensors, axes, strict=True)]
                      for i in range(count(y)))  # fmt: skip
        return torch.stack([single(parts, take(y, i)) for i, parts in enumerate(each_alone)])
