"""Reasons of a library that are the same for many layers of a model, said once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from gradkernels.case import Case
from gradkernels.problems.module.conversion import HALVES
from gradkernels.problems.module.structure import Module


def trainable(model: Module) -> Iterator[tuple[str, Module]]:
    """Yield the modules that have trainable parameters of their own, by name."""
    for name, module in model.named_modules():
        if any(one is not None and one.requires_grad for one in module._parameters.values()):
            yield name or "the model itself", module


def is_torch_layer(module: Module) -> bool:
    """Return whether it is a layer that comes with torch, whose behaviour is known by its class."""
    return type(module).__module__.startswith("torch.nn.")


def half_precision_reasons(case: Case, who: str) -> list[str]:
    """Return why what squares and adds rows in their own dtype is refused in half precision."""
    if case.dtype not in HALVES:
        return []
    return [f"{who} squares and adds in {case.dtype} itself: pass float32, or take rows, which are squared in float32"]


def group_by_reason(found: Iterable[tuple[str, Module, str]]) -> list[str]:
    """Return a sentence for each reason, with the layers instead of its `{}`: `GroupNorm (1 and 6 more), ReLU (2)`.

    Args:
        found: `(name, layer, reason)`.
    """
    layers: dict[str, dict[str, list[str]]] = {}
    for name, module, reason in found:
        layers.setdefault(reason, {}).setdefault(type(module).__name__, []).append(name)
    return [
        reason.replace("{}", ", ".join(f"{kind} ({_some(names)})" for kind, names in kinds.items()))
        for reason, kinds in layers.items()
    ]


def _some(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
