"""Opacus: what it refuses, its own recurrent layers in the place of torch's, and its three kinds of wrapper.

Opacus records a layer in training mode only. Layers of torch that have parameters compute the same in both modes, but
for those that are refused here anyway, so the copy's are put in training mode, and nothing else is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gradkernels.case import Case
from gradkernels.engines.peers.reasons import group_by_reason, half_precision_reasons, is_torch_layer, trainable
from gradkernels.problems.module.structure import Module

RECURRENT = ("LSTM", "GRU")
"""Layers of torch that Opacus has its own for."""

EXPANDED_LAYERS = (
    *("Linear", "Conv1d", "Conv2d", "Conv3d", "Embedding", "GroupNorm", "LayerNorm"),
    *("InstanceNorm1d", "InstanceNorm2d", "InstanceNorm3d"),
)
"""Layers of torch that have expanded weights."""


def refuses(case: Case) -> list[str]:
    """Return why Opacus cannot do a case: its own validators' reasons, and what it would get wrong without a word."""
    problem: Any = case.problem
    reasons = group_by_reason(
        (name, module, reason)
        for name, module in trainable(problem.model)
        for reason in (*_validated(module), *_beyond(module))
    )
    if problem.randomness != "error":
        reasons.append(f"Opacus has no randomness={problem.randomness!r}; use torch.loop or torch.vmap")
    return reasons


def refuses_expanded(case: Case) -> list[str]:
    """Return why expanded weights cannot do a case."""
    problem: Any = case.problem
    reasons = group_by_reason(
        (name, module, "torch has no expanded weights for {}; it has those for " + ", ".join(EXPANDED_LAYERS))
        for name, module in trainable(problem.model)
        if is_torch_layer(module) and type(module).__name__ not in (*EXPANDED_LAYERS, *RECURRENT)
    )
    if problem.example is not None and isinstance(problem.example[0], dict):
        reasons.append("expanded weights take inputs by position, not by name: pass x as a tensor or a tuple")
    return [*refuses(case), *reasons]


def refuses_rules(case: Case) -> list[str]:
    """Return why Opacus' rules for layers cannot do a case."""
    problem: Any = case.problem
    reasons = group_by_reason(
        (name, module, "Opacus' rule for {} does not look at padding_mode")
        for name, module in trainable(problem.model)
        if getattr(module, "padding_mode", "zeros") != "zeros"
    )
    return [*refuses(case), *reasons]


def refuses_ghost(case: Case) -> list[str]:
    """Return why ghost clipping cannot do a case."""
    problem: Any = case.problem
    tied = [name for name, places in problem.sites().items() if len(places) > 1]
    reasons = [f"Opacus' ghost clipping cannot do tied parameters such as {tied[0]}"] if tied else []
    return [*refuses_rules(case), *reasons, *half_precision_reasons(case, "Opacus' ghost clipping")]


def _validated(module: Module) -> Iterator[str]:
    """Yield what Opacus' validators say, but of recurrent layers, which its own replace."""
    from opacus.validators import ModuleValidator

    validate = ModuleValidator.VALIDATORS.get(type(module))
    if validate is not None and type(module).__name__ not in RECURRENT:
        for error in validate(module):
            yield "Opacus refuses {}: " + str(error).partition(". ")[0].rstrip(".")
    elif next(module.buffers(), None) is not None:
        yield "Opacus refuses {}: a layer that is trained and has buffers"


def _beyond(module: Module) -> Iterator[str]:
    """Yield what Opacus fails on, or gets wrong without a word."""
    kind = type(module).__name__
    if kind in RECURRENT and module.proj_size:
        yield "{} has a projection, which Opacus' own layer leaves out"
    if kind == "RNN":
        yield "Opacus has no layer of its own for {}; it has those for " + ", ".join(RECURRENT)
    if kind == "EmbeddingBag":
        yield "Opacus needs offsets for {} and counts a repeated word once"
    if kind == "Embedding" and (module.padding_idx is not None or module.scale_grad_by_freq or module.sparse):
        yield "Opacus does not look at padding_idx, scale_grad_by_freq and sparse of {}"
    if not is_torch_layer(module) and not module.training:
        yield (
            "Opacus records a layer in training mode only, and {}, which has parameters of its own, is in eval mode: "
            "call its train() if it computes the same there"
        )


def replace_recurrent(model: Module) -> None:
    """Put Opacus' own recurrent layers in the place of torch's that are trained; their parameters keep their names."""
    from opacus.validators import ModuleValidator

    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if type(child).__name__ in RECURRENT and any(trainable(child)):
                layer = ModuleValidator.FIXERS[type(child)](child).to(next(child.parameters()))
                for key, parameter in child.named_parameters():
                    dict(layer.named_parameters())[key].requires_grad_(parameter.requires_grad)
                setattr(parent, name, layer.train(child.training))


def set_training(model: Module) -> Module:
    """Put the trained layers of the model in training mode."""
    for _, module in trainable(model):
        module.training = True  # and not that of its children, which may be dropout
    return model


def clear_results(parameter: Any) -> None:
    """Take Opacus' results off a parameter."""
    parameter.grad_sample = None
    if hasattr(parameter, "_norm_sample"):
        del parameter._norm_sample
