"""What a torch.nn.Module is made of: its parameters and where they sit, its modes, and a fingerprint of all that."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

Module = Any
"""A `torch.nn.Module`."""

Site = tuple[Module, str]
"""A module, and the name under which it has a parameter."""

Parameters = Mapping[str, Any]
"""Tensors by parameter name."""


def sites(model: Module) -> dict[str, list[Site]]:
    """Every place of each trainable parameter, by the first name that it has; tied parameters have several."""
    names: dict[int, str] = {}
    found: dict[str, list[Site]] = {}
    for prefix, module in model.named_modules():
        for attribute, parameter in module._parameters.items():
            if parameter is not None and parameter.requires_grad:
                name = names.setdefault(id(parameter), f"{prefix}.{attribute}".lstrip("."))
                found.setdefault(name, []).append((module, attribute))
    return found


@contextmanager
def swapped(places: Mapping[str, list[Site]], theta: Parameters) -> Iterator[None]:
    """The modules hold `theta` instead of their own parameters; as they were afterwards, whatever happens."""
    before = [(module, name, module._parameters[name]) for of_one in places.values() for module, name in of_one]
    flat = [(weights, attribute) for module, _, _ in before for weights, attribute in _copies(module)]
    try:
        for name, of_one in places.items():
            for module, attribute in of_one:
                module._parameters[attribute] = theta[name]
        _refresh(before, flat)
        yield
    finally:
        for module, attribute, parameter in before:
            module._parameters[attribute] = parameter
        _refresh(before, flat)


def _copies(module: Module) -> list[tuple[list[Any], list[str]]]:
    """The list of its weights that a recurrent layer keeps beside them, with their names."""
    weights, names = getattr(module, "_flat_weights", None), getattr(module, "_flat_weights_names", None)
    return [(weights, names)] if weights is not None and names is not None else []


def _refresh(places: list[tuple[Module, str, Any]], flat: list[tuple[list[Any], list[str]]]) -> None:
    if flat:
        for module in {id(module): module for module, _, _ in places}.values():
            for weights, names in _copies(module):
                weights[:] = [getattr(module, name, None) for name in names]


def stamp(model: Module) -> tuple[Any, ...]:
    """What a kernel that was built for the model relies on: modes, and which parameters are trained."""
    return tuple(
        (module.training, *(one is not None and one.requires_grad for one in module._parameters.values()))
        for module in model.modules()
    )


def fingerprint(model: Module, *more: str) -> str:
    """Eight hexadecimal digits of the structure: layers, shapes, what is trained or tied; never the weights."""
    lines = [f"{name}:{type(module).__qualname__}({module.extra_repr()})" for name, module in model.named_modules()]
    for name, of_one in sites(model).items():
        module, attribute = of_one[0]
        lines.append(f"{name}:{tuple(module._parameters[attribute].shape)}:{len(of_one)}")
    return hashlib.sha256("\n".join((*lines, *more)).encode()).hexdigest()[:8]
