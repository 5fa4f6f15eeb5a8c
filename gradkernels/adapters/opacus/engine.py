"""Opacus' `PrivacyEngine`, whose models leave gradients of gradkernels'."""

from __future__ import annotations

from typing import Any

import opacus
from opacus.grad_sample import AbstractGradSampleModule
from opacus.utils.module_utils import trainable_modules
from opacus.validators.errors import UnsupportedModuleError
from opacus.validators.module_validator import ModuleValidator
from torch import nn

from gradkernels.adapters.opacus.ghost import OnePassCriterion
from gradkernels.adapters.opacus.modules import GradientHooks, GradientModule

COMPUTED_MODES = ("hooks", "ghost")
"""Modes that are computed here; others are Opacus' own."""

FOLLOWED = (nn.MultiheadAttention, nn.LSTM, nn.GRU)
"""Layers that Opacus asks to replace, and that are followed as they are."""

FLAT_GHOST = (
    "ghost clipping has clipping='flat' alone, not {clipping!r}: pass grad_sample_mode='hooks', which forms no "
    "per-sample gradients here either"
)

OTHER_MODULE = (
    "Pre-existing GradSampleModule doesn't match new arguments: it is a {kind} with batch_first={batch_first}, "
    "loss_reduction={loss_reduction!r}; pass the plain nn.Module instead (module.to_standard_module())"
)


class PrivacyEngine(opacus.PrivacyEngine):
    """Opacus' engine with per-sample gradients that are followed through the model and never formed.

    Arguments, results, optimizers, noise and accountants are Opacus' own. With `grad_sample_mode` as `hooks`, the
    default, and as `ghost` the model's passes are followed here; with any other mode nothing differs from Opacus.
    """

    def is_compatible(self, *, module: nn.Module, optimizer: Any, data_loader: Any) -> bool:
        """Return whether a model can be trained with privacy.

        Args:
            module: The model.
            optimizer: Of its parameters; not looked at.
            data_loader: Of the samples; not looked at.
        """
        return not _errors(module)

    def validate(self, *, module: nn.Module, optimizer: Any, data_loader: Any) -> None:
        """Raise an UnsupportedModuleError for a model that cannot be trained with privacy.

        Args:
            module: The model.
            optimizer: Of its parameters; not looked at.
            data_loader: Of the samples; not looked at.
        """
        if errors := _errors(module):
            raise UnsupportedModuleError(errors)

    def _prepare_model(
        self, module: nn.Module, *, batch_first: bool = True, max_grad_norm: Any = 1.0, loss_reduction: str = "mean",
        grad_sample_mode: str = "hooks", wrap_model: bool = True,
    ) -> Any:  # fmt: skip
        if grad_sample_mode not in COMPUTED_MODES:
            return super()._prepare_model(
                module, batch_first=batch_first, max_grad_norm=max_grad_norm, loss_reduction=loss_reduction,
                grad_sample_mode=grad_sample_mode, wrap_model=wrap_model,
            )  # fmt: skip
        if wrap_model and isinstance(module, AbstractGradSampleModule):
            return _prepared(module, batch_first, loss_reduction, grad_sample_mode)
        self.validate(module=module, optimizer=None, data_loader=None)
        options: dict[str, Any] = {"batch_first": batch_first, "loss_reduction": loss_reduction}
        if grad_sample_mode == "ghost":
            options |= {"max_grad_norm": max_grad_norm, "ghost": True}
        return (GradientModule if wrap_model else GradientHooks)(module, **options)

    def _prepare_optimizer(self, *, clipping: str = "flat", grad_sample_mode: str = "hooks", **options: Any) -> Any:
        if grad_sample_mode == "ghost" and clipping != "flat":
            raise ValueError(FLAT_GHOST.format(clipping=clipping))
        return super()._prepare_optimizer(clipping=clipping, grad_sample_mode=grad_sample_mode, **options)

    def _prepare_criterion(
        self, *, module: Any, optimizer: Any, criterion: Any, loss_reduction: str = "mean", **others: Any
    ) -> Any:
        return OnePassCriterion(module, optimizer, criterion, loss_reduction)


def _prepared(module: nn.Module, batch_first: bool, loss_reduction: str, mode: str) -> nn.Module:
    """Return a model that has been prepared before; raise a ValueError if it was for something else.

    Args:
        module: The model.
        batch_first: Whether the samples are the first axis of its inputs.
        loss_reduction: Of the loss.
        mode: `hooks` or `ghost`.
    """
    made_for: Any = (module.batch_first, module.loss_reduction, getattr(module, "is_ghost", None))
    if type(module) is GradientModule and made_for == (batch_first, loss_reduction, mode == "ghost"):
        return module
    kind = type(module).__name__ + (" for ghost clipping" if made_for[-1] else "")
    raise ValueError(OTHER_MODULE.format(kind=kind, batch_first=made_for[0], loss_reduction=made_for[1]))


def _errors(module: nn.Module) -> list[UnsupportedModuleError]:
    """Return what Opacus has against a model, but for layers that need no replacement here."""
    layers = [layer for _, layer in trainable_modules(module) if type(layer) in FOLLOWED]
    excused = {str(error) for layer in layers for error in ModuleValidator.VALIDATORS[type(layer)](layer)}
    return [error for error in ModuleValidator.validate(module, strict=False) if str(error) not in excused]
