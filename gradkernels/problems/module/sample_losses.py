"""The loss of each sample from a loss function of batches: `loss_fn(output[i:i+1], target[i:i+1])` for every i.

A mean over a batch is not always the mean of these: class weights and ignored targets divide by something else. So
the definition is a batch of one; the losses of torch that are known to be sums of independent terms are computed for
all samples at once, any other by `torch.vmap` or, where that fails, one by one.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import lru_cache, partial
from types import BuiltinFunctionType, FunctionType
from typing import Any

from gradkernels.backend import Array
from gradkernels.problems.module.inputs import unfolded
from gradkernels.problems.module.mode_key.identity import identity
from gradkernels.problems.module.output_axes import OutputAxes, output_axes_of
from gradkernels.problems.module.split_output import Inseparable, SplitOutput, Withheld
from gradkernels.problems.module.structure import LossFn, Module
from gradkernels.tree import Tree, count, each, leaves, take

REDUCTIONS = ("mean", "sum")
LOSS_CLASSES = (
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
LOSS_FUNCTIONS = (
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
IGNORE_INDEX = -100  # torch's ignore_index where none is given


def unreduced(loss_fn: Any) -> LossFn | None:
    """Return the same loss with reduction="none", if it is one of torch's without weights; None for any other."""
    functions, classes = _known()
    if isinstance(loss_fn, FunctionType | BuiltinFunctionType):
        return partial(loss_fn, reduction="none") if loss_fn in functions else None
    if type(loss_fn) in classes and getattr(loss_fn, "weight", None) is None:
        plain = copy.copy(loss_fn)
        plain.reduction = "none"
        return plain
    return None


@lru_cache
def _known() -> tuple[frozenset[Any], frozenset[type]]:
    from torch import nn
    from torch.nn import functional

    return frozenset(getattr(functional, one) for one in LOSS_FUNCTIONS), frozenset(
        getattr(nn, one) for one in LOSS_CLASSES
    )


class SampleLosses:
    """What a loss function of batches says of single samples.

    Args:
        loss_fn: Of batches.
        reduction: Of `loss_fn` over the terms of a sample.
        model: Whose outputs it takes.
    """

    def __init__(self, loss_fn: LossFn, reduction: str, model: Module) -> None:
        self._loss_fn, self._reduction = loss_fn, reduction
        self._parts = output_axes_of(model)
        self._of: Any = None
        self._plain: LossFn | None = None

    @property
    def plain(self) -> LossFn | None:
        """`unreduced(loss_fn)`, with the settings that it has now."""
        if self._of != (now := identity(self._loss_fn)):
            self._of, self._plain = now, unreduced(self._loss_fn)
        return self._plain

    def __call__(self, output: Tree, y: Tree) -> Array:
        """Compute the loss of each sample, `(n,)`.

        Args:
            output: The model's, samples first.
            y: Targets, samples first.
        """
        if self.plain is not None:
            require_tensor(self._loss_fn, output)
        if self.plain is None or has_ignored_targets(self._loss_fn, y):
            return self.as_defined(output, y)
        return self.at_once(output, y)

    def at_once(self, output: Tree, y: Tree) -> Array:
        """Compute the losses by one of torch's that is not reduced, where no target is ignored."""
        require_tensor(self._loss_fn, output)
        assert self.plain is not None
        terms = self.plain(output, unfolded(y))
        if terms.ndim == 1:
            return terms
        terms = terms.flatten(1)
        return terms.mean(1) if self._reduction == "mean" else terms.sum(1)

    def as_defined(self, output: Tree, y: Tree) -> Array:
        """Compute the same without a look at the targets' values: what can be traced."""
        return loss_of_each(self._loss_fn, self._parts, output, y)

    def of_batch(self, output: Tree, y: Tree) -> Array:
        """Compute the loss of a batch; refuse an output that is no tensor where the loss is one of torch's."""
        if self.plain is not None:
            require_tensor(self._loss_fn, output)
        return self._loss_fn(output, unfolded(y))


def has_ignored_targets(loss_fn: LossFn, y: Tree) -> bool:
    """Tell whether targets may be left out of the mean."""
    import torch

    target, ignored = leaves(y)[0], getattr(loss_fn, "ignore_index", IGNORE_INDEX)
    if target.is_floating_point():
        return False
    # All are above it, most of the time, and the least one is found in a quarter of the time of a comparison of each.
    if target.dtype is torch.int64 and target.numel() and target.min().item() > ignored:
        return False
    return bool((target == ignored).any())


def loss_of_each(loss_fn: LossFn, known: OutputAxes, output: Tree, y: Tree) -> Array:
    """Compute the loss of each sample `(n,)`, as it is defined: by `torch.vmap`, or one by one where that fails.

    Args:
        loss_fn: Of batches.
        known: Which tensors of the model's output have samples.
        output: The model's, for a batch.
        y: Targets, samples first.
    """
    import torch

    n = count(y)
    if n == 1:
        return loss_fn(output, unfolded(y)).reshape(1)
    apart = SplitOutput(output, known.have_samples(output, n))
    tensors = apart.tensors

    def single(parts: list[Any], y: Tree) -> Array:
        return loss_fn(apart.of_one([part[None] for part in parts]), unfolded(each(lambda array: array[None], y)))

    if n == 0:
        return tensors[0].new_zeros(0)
    try:
        return torch.vmap(single)(tensors, y)
    except Exception:
        # What vmap has no rule for, a loss that prints or counts: as it is defined then.
        # Targets of its own for each sample: what the loss writes to them, autograd counts for all views of one memory.
        own = [each(lambda array: array.clone(), take(y, i)) for i in range(n)]
        return torch.stack([_scalar(single([part[i] for part in tensors], own[i])) for i in range(n)])


def _scalar(loss: Any) -> Array:
    if isinstance(loss, Withheld):
        raise Inseparable(loss.says)
    return loss


def own_loss(output: Any, y: Any) -> Array:
    """Return the loss that the model computes itself: `output.loss`, or the entry `loss`."""
    loss = output.get("loss") if isinstance(output, Mapping) else getattr(output, "loss", None)
    if loss is None:
        raise ValueError(
            f"the model gives a {type(output).__name__} without a loss; have it given its labels in x, or pass "
            "loss_fn, a function of (output, target)"
        )
    return loss


def require_tensor(loss_fn: Any, output: Any) -> None:
    """Raise a ValueError where one of torch's losses would be given an output that is no tensor."""
    import torch

    if isinstance(output, torch.Tensor):
        return
    has = [name for name in ("logits", "last_hidden_state", "prediction_logits") if hasattr(output, name)]
    part = f"output.{has[0]}" if has else "output[0]"
    name = getattr(loss_fn, "__name__", type(loss_fn).__name__)
    raise ValueError(
        f"loss_fn is {name}, which takes a tensor, but the model gives a {type(output).__name__}; pass a function of "
        f"the part that is meant, such as loss_fn=lambda output, y: loss({part}, y) with loss={name}"
    )
