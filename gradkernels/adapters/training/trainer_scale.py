"""What transformers' Trainer multiplies the mean loss of a batch with: its share of a step of several batches."""

from __future__ import annotations

import math
from typing import Any

from transformers.loss.loss_utils import LOSS_MAPPING, ForCausalLMLoss

from gradkernels.backend import Array
from gradkernels.problems.module.sample_losses import IGNORE_INDEX
from gradkernels.problems.module.structure import Module
from gradkernels.watch.loss_root import Root, loss_end

SCALE_UNKNOWN = (
    "how this model's loss uses num_items_in_batch cannot be read off its graph, so that its share of a step of "
    "several batches is not known: pass gradient_accumulation_steps=1"
)


class TrainerScale:
    """Follows the calls of a model that a Trainer trains in steps of several batches.

    A Trainer passes the number of a step's targets to models that take it, which divide the sum of their losses by it;
    some take it and go on with the mean. For others it divides the mean by the step's number of batches.

    Args:
        model: Which it calls with labels.
        parts: Batches of a step: `gradient_accumulation_steps`.
        loader: What gives the batches.
        times: What a loss is multiplied with whose model takes the number of targets: the number of processes, where
            that number is of all of them.
    """

    def __init__(self, model: Module, parts: int, loader: Any, times: int = 1) -> None:
        self._parts, self._loader, self._times = parts, loader, times
        self._step, self._share = 0, 1.0
        is_decoder_alone = not getattr(getattr(model, "config", None), "is_encoder_decoder", False)
        self._shifts = LOSS_MAPPING.get(str(getattr(model, "loss_type", ""))) is ForCausalLMLoss and is_decoder_alone
        self._hook = model.register_forward_hook(self._look, with_kwargs=True) if parts * times > 1 else None

    def now(self) -> float:
        """Return what the batch's mean loss is multiplied with."""
        return self._share

    def begin_step(self, step: int) -> None:
        """Take note which step it is, from 0."""
        self._step = step

    def leave(self) -> None:
        """Follow the model no longer."""
        if self._hook is not None:
            self._hook.remove()

    def _look(self, model: Module, args: Any, kwargs: dict[str, Any], output: Any) -> None:
        if not model.training:
            return
        items = kwargs.get("num_items_in_batch")
        loss = output.get("loss") if isinstance(output, dict) else None
        if items is None:
            self._share = 1 / self._batches()
        elif loss is None or (end := loss_end(Root(loss.grad_fn))) is None:
            raise ValueError(SCALE_UNKNOWN)
        else:
            self._share = self._times * (self._targets(kwargs) / float(items) if end.multiplied else 1.0)

    def _batches(self) -> int:
        """Return how many batches this step has: the last one of an epoch may have fewer."""
        try:
            whole = len(self._loader)
        except TypeError as error:
            raise ValueError(
                "the data have no length, so that the number of batches in the last step is not known: pass "
                "gradient_accumulation_steps=1"
            ) from error
        last = self._step % math.ceil(whole / self._parts) == math.ceil(whole / self._parts) - 1
        return (whole % self._parts or self._parts) if last else self._parts

    def _targets(self, kwargs: dict[str, Any]) -> float:
        """Return the number of a batch's targets, as the Trainer counts them."""
        labels: Array = kwargs["labels"][..., 1:] if self._shifts else kwargs["labels"]
        counted: Array = kwargs.get("shift_labels", labels)
        return float(counted.ne(IGNORE_INDEX).sum())
