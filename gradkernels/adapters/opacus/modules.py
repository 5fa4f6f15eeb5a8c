"""In the place of Opacus' `GradSampleHooks` and `GradSampleModule`: backward passes leave `p.grad_sample`."""

from __future__ import annotations

from typing import Any

import torch
from opacus.grad_sample.gsm_base import AbstractGradSampleHooks, AbstractGradSampleModule
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from gradkernels.adapters.opacus.kept import ArrivedGradients
from gradkernels.adapters.opacus.passes import PassFollower
from gradkernels.adapters.opacus.rows import UnformedRows
from gradkernels.adapters.opacus.unclipped import UnclippedGradients
from gradkernels.backend import Array

STABILITY = 1e-6
"""What Opacus adds to norms before it divides by them."""

ACCUMULATION = (
    "Poisson sampling is not compatible with grad accumulation. You need to call optimizer.step() after every "
    "forward/backward pass or consider using BatchMemoryManager"
)
MIXES = (
    "Model contains a trainable layer that normalizes over the batch: {name}; samples have no gradients of their own"
)
NOT_FOLLOWED = (
    "backward() went through no forward pass of the private model in train mode, so that nothing can be clipped: call "
    "the model that make_private returned, after model.train()"
)
NO_PASS = "per_sample_gradient_norms is not set. Please call forward and backward on the model before accessing it."


class GradientHooks(AbstractGradSampleHooks):
    """Has each backward pass through a model leave per-sample gradients, which are not formed unless asked for.

    Args:
        m: The model, on which nothing but hooks is put.
        batch_first: Whether the samples are the first axis of its inputs, or the second one.
        loss_reduction: Of the loss, `mean` or `sum`.
        strict: Whether BatchNorm is refused now. Other layers' buffers may stay; a pass that changes them is refused.
        force_functorch: Taken as Opacus takes it; nothing is forced.
        max_grad_norm: Of ghost clipping.
        use_ghost_clipping: Taken as Opacus takes it.
        ghost: Whether gradients are kept for a loss of ghost clipping, and not put on parameters.
    """

    def __init__(
        self, m: nn.Module, *, batch_first: bool = True, loss_reduction: str = "mean", strict: bool = True,
        force_functorch: bool = False, max_grad_norm: float = 1.0, use_ghost_clipping: bool = True, ghost: bool = False,
    ) -> None:  # fmt: skip
        if strict and (mixing := [name for name, layer in m.named_modules() if _mixes(layer)]):
            raise NotImplementedError(MIXES.format(name=mixing[0]))
        super().__init__(m, batch_first=batch_first, loss_reduction=loss_reduction)
        self.max_grad_norm, self.grad_accumulation_allowed = max_grad_norm, True
        self.trainable_parameters = [one for one in m.parameters() if one.requires_grad]
        self._ghost, self._kept, self._lengths = ghost, list[ArrivedGradients](), list[Array]()
        self._follower = PassFollower(m, loss_reduction, 0 if batch_first else 1, self._take)
        self._unclipped = UnclippedGradients(self.trainable_parameters if ghost else ())

    @property
    def is_ghost(self) -> bool:
        """Whether it is made for a loss of ghost clipping."""
        return self._ghost

    def add_hooks(self, **options: Any) -> None:
        """Follow the model's calls."""
        self._follower.add_hooks()
        self._unclipped.remove()
        self._unclipped = UnclippedGradients(self.trainable_parameters if self._ghost else ())

    def remove_hooks(self) -> None:
        """Follow them no more."""
        self._follower.remove_hooks()
        self._unclipped.remove()

    def enable_hooks(self) -> None:
        """Look at backward passes."""
        self._follower.listens, self._unclipped.stays = True, False

    def disable_hooks(self) -> None:
        """Look at none until `enable_hooks`."""
        self._follower.listens, self._unclipped.stays = False, True

    @property
    def hooks_enabled(self) -> bool:
        """Whether backward passes are looked at."""
        return self._follower.listens

    def forbid_grad_accumulation(self) -> None:
        """Raise a ValueError at the second backward pass of a step from now on."""
        self.grad_accumulation_allowed = False

    def allow_grad_accumulation(self) -> None:
        """Let a step have several backward passes."""
        self.grad_accumulation_allowed = True

    def _take(self, kept: ArrivedGradients) -> None:
        """Put the rows of a backward pass on the parameters, unformed."""
        if self._ghost:
            self._kept, self._lengths = [kept] if self._unclipped.is_expected else [], []
            return
        for name, parameter in kept.theta.items():
            rows, held = UnformedRows([(kept, name)]), getattr(parameter, "grad_sample", None)
            if isinstance(held, list):
                held.append(rows)
            else:
                parameter.grad_sample = rows if held is None else [held, rows]
            if isinstance(parameter.grad_sample, list) and not self.grad_accumulation_allowed:
                raise ValueError(ACCUMULATION)

    def get_norm_sample(self) -> Array:
        """Return the norms of the last backward pass, `(n,)`, of ghost clipping."""
        return self.per_sample_gradient_norms

    def get_clipping_coef(self) -> Array:
        """Return the factors that clip them, `(n,)`."""
        return (self.max_grad_norm / (self.get_norm_sample() + STABILITY)).clamp(max=1.0)

    @property
    def per_sample_gradient_norms(self) -> Array:
        """Norms of the last backward pass, `(n,)`, of ghost clipping; they have no privacy."""
        lengths = self._lengths or [kept.lengths for kept in self._kept]
        if not lengths:
            raise AttributeError(NO_PASS)
        return lengths[0].to(max((one.dtype for one in self.trainable_parameters), key=_size))

    def run_backward(self, loss: Array) -> None:
        """Run the backward pass of a loss of ghost clipping."""
        with self._unclipped.expected():
            self._follower.backward(loss)

    def put_clipped_sums(self) -> None:
        """Add the clipped sums of the last backward pass to `.grad`, and let go of what they were made of."""
        if not self._kept:
            raise RuntimeError(NOT_FOLLOWED)
        weights, (kept,) = self.get_clipping_coef(), self._kept
        for name, total in kept.weighted_sums(weights).items():
            parameter = kept.theta[name]
            parameter.grad = total if parameter.grad is None else parameter.grad.add_(total)
        self._kept, self._lengths = [], [kept.lengths]


def _mixes(layer: nn.Module) -> bool:
    """Return whether a layer that is trained computes a sample's output from other samples too."""
    return isinstance(layer, _BatchNorm) and any(one.requires_grad for one in layer.parameters())


def _size(dtype: torch.dtype) -> int:
    return dtype.itemsize


class GradientModule(GradientHooks, AbstractGradSampleModule):
    """A model around the caller's, as Opacus' `GradSampleModule` is; arguments are those of `GradientHooks`."""

    def __init__(self, m: nn.Module, **options: Any) -> None:
        nn.Module.__init__(self)
        GradientHooks.__init__(self, m, **options)
        self.grad_accumulation_hook = None

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call the caller's model."""
        return self._module(*args, **kwargs)
