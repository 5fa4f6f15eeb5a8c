"""The loss of ghost clipping in one backward pass: the clipped sums come from what that pass left."""

from __future__ import annotations

from typing import Any

from opacus.utils.fast_gradient_clipping_utils import DPLossFastGradientClipping, DPTensorFastGradientClipping


class OnePassLoss(DPTensorFastGradientClipping):
    """Losses of the samples, whose `backward()` leaves clipped sums in `.grad`.

    Sums, products and so on of them are losses of the same kind.
    """

    @classmethod
    def like(cls, other: DPTensorFastGradientClipping) -> OnePassLoss:
        """Return the same loss with a backward pass of this kind."""
        return cls(other.module, other.optimizer, other.loss_per_sample, other.loss_reduction)

    def __truediv__(self, other: Any) -> OnePassLoss:
        return self.like(super().__truediv__(other))

    def __mul__(self, other: Any) -> OnePassLoss:
        return self.like(super().__mul__(other))

    def __add__(self, other: Any) -> OnePassLoss:
        return self.like(super().__add__(other))

    def __sub__(self, other: Any) -> OnePassLoss:
        return self.like(super().__sub__(other))

    def __rsub__(self, other: Any) -> OnePassLoss:
        return self.like(super().__rsub__(other))

    def __neg__(self) -> OnePassLoss:
        return self.like(super().__neg__())

    def backward(self) -> None:
        """Run one backward pass, and put clipped sums into `.grad`."""
        losses = self.loss_per_sample
        self.module.max_grad_norm = self.optimizer.max_grad_norm  # which its noise is for, whoever has changed it since
        self.module.run_backward(losses.mean(dim=0) if self.loss_reduction == "mean" else losses.sum(dim=0))
        self.optimizer.zero_grad(set_to_none=True)
        self.module.put_clipped_sums()


class OnePassCriterion(DPLossFastGradientClipping):
    """A criterion that gives such losses."""

    def __call__(self, *args: Any, **kwargs: Any) -> OnePassLoss:
        """Return the losses of the samples."""
        return OnePassLoss.like(super().__call__(*args, **kwargs))
