"""What a torch.nn.Module is made of: its parameters and where they sit, its modes, and a fingerprint of all that."""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from fnmatch import fnmatchcase
from functools import lru_cache, partial
from typing import Any

Module = Any
"""A `torch.nn.Module`."""

LossFn = Callable[[Any, Any], Any]
"""`loss_fn(output, y)` of a batch, a scalar tensor."""

Site = tuple[Module, str]
"""A module, and the name under which it has a parameter."""

Slot = tuple[dict[str, Any], str]
"""A module's own dict of parameters or buffers, and a name in it."""

Parameters = Mapping[str, Any]
"""Tensors by parameter name."""


def sites(model: Module, only: tuple[str, ...] = ()) -> dict[str, list[Site]]:
    """Find every place of each trainable parameter, by the first name that it has; tied ones have several.

    Args:
        model: Whose parameters they are.
        only: Globs; parameters with a name that one of them matches, or all where there are none.
    """
    names: dict[int, str] = {}
    found: dict[str, list[Site]] = {}
    chosen = set[str]()
    for prefix, module in model.named_modules():
        for attribute, parameter in module._parameters.items():
            if parameter is not None and parameter.requires_grad:
                own = f"{prefix}.{attribute}".lstrip(".")
                name = names.setdefault(id(parameter), own)
                found.setdefault(name, []).append((module, attribute))
                if only and matches(own, only):
                    chosen.add(name)
    return {name: of_one for name, of_one in found.items() if name in chosen} if only else found


@lru_cache(maxsize=4096)
def matches(name: str, globs: tuple[str, ...]) -> bool:
    """Return whether one of the globs matches a name."""
    return any(fnmatchcase(name, glob) for glob in globs)


@contextmanager
def trained_alone(model: Module, only: tuple[str, ...], theta: Parameters | None) -> Iterator[Parameters | None]:
    """Have no parameters but some require gradients, and the others be as `theta` has them; then all is as before.

    Args:
        model: Whose parameters they are.
        only: Globs of the names of those that are differentiated by.
        theta: Parameters by name, those and any others; None for the model's own.

    Yields:
        What theta has of those.

    Raises:
        ValueError: Another parameter has not the model's shape.
    """
    every, chosen = sites(model), sites(model, only)
    others = {name: of_one for name, of_one in every.items() if name not in chosen}
    own = {name: module._parameters[attribute] for name, ((module, attribute), *_) in others.items()}
    given = {name: theta[name] for name in others if name in theta} if isinstance(theta, dict) else {}
    for name, tensor in given.items():
        if (shape := tuple(tensor.shape)) != tuple(own[name].shape):
            raise ValueError(f"theta[{name!r}] is {shape}; it must be {tuple(own[name].shape)} as in the model")
    changed = {name: one.detach() if one.requires_grad else one for name, one in given.items() if one is not own[name]}
    asked = theta if theta is None else {name: one for name, one in theta.items() if name not in given}
    try:
        for one in own.values():
            one.requires_grad_(False)
        with swapped_parameters({name: others[name] for name in changed}, changed) if changed else nullcontext():
            yield asked
    finally:
        for one in own.values():
            one.requires_grad_(True)


@contextmanager
def swapped_parameters(places: Mapping[str, list[Site]], theta: Parameters) -> Iterator[None]:
    """Have the modules hold `theta` instead of their own parameters; they hold their own again afterwards."""
    before = [(module, name, module._parameters[name]) for of_one in places.values() for module, name in of_one]
    recurrent = _recurrent(module for module, _, _ in before)
    try:
        for name, of_one in places.items():
            for module, attribute in of_one:
                module._parameters[attribute] = theta[name]
        _refresh(recurrent)
        yield
    finally:
        for module, attribute, parameter in before:
            module._parameters[attribute] = parameter
        _refresh(recurrent)


def _recurrent(modules: Iterable[Module]) -> list[Module]:
    """Return those that keep a list of their weights beside them, as torch's recurrent layers do."""
    return [module for module in modules if getattr(module, "_flat_weights_names", None) is not None]


def _refresh(recurrent: list[Module]) -> None:
    for module in recurrent:
        weights = [getattr(module, name, None) for name in module._flat_weights_names]
        module._flat_weights[:] = weights
        # By these it notices that it holds others, and would lay them out anew.
        module._flat_weight_refs = [None if weight is None else weakref.ref(weight) for weight in weights]


@contextmanager
def with_copied_tensors(modules: Iterable[Module], dtype: Any) -> Iterator[list[str]]:
    """Have the modules hold copies of all parameters and buffers, floats in `dtype` if any; then their own again.

    Yields:
        A list that will name the buffers that were written to or replaced meanwhile.
    """
    held = [(name, one) for module in modules for name, one in module.named_modules()]
    before = [(name, one, dict(one._parameters), dict(one._buffers)) for name, one in held]
    recurrent = _recurrent(one for _, one in held)
    copies: dict[int, Any] = {}
    written: list[str] = []
    try:
        for _, module, parameters, buffers in before:
            module._parameters.update(_copied(parameters, dtype, copies))
            module._buffers.update(_copied(buffers, dtype, copies))
        _refresh(recurrent)
        yield written
    finally:
        for prefix, module, parameters, buffers in before:
            held_now = [(name, module._buffers.get(name), copies.get(id(one))) for name, one in buffers.items()]
            written += [f"{prefix}.{name}".lstrip(".") for name, now, copy in held_now if _touched(now, copy)]
            module._parameters.update(parameters)
            module._buffers.update(buffers)
        _refresh(recurrent)


def _copied(tensors: Mapping[str, Any], dtype: Any, copies: dict[int, Any]) -> dict[str, Any]:
    for one in tensors.values():
        if one is not None and id(one) not in copies:
            copies[id(one)] = as_dtype(one.detach(), dtype).clone()
    return {name: copies.get(id(one)) for name, one in tensors.items()}


def as_dtype(tensor: Any, dtype: Any) -> Any:
    """Convert a tensor of floats to `dtype`, one of complex numbers to two of that; None leaves it."""
    if dtype is None:
        return tensor
    if tensor.is_floating_point():
        return tensor.to(dtype)
    return tensor.to(dtype.to_complex()) if tensor.is_complex() else tensor


def _touched(now: Any, copy: Any) -> bool:
    return now is not copy or (copy is not None and copy._version != 0)


def model_state(model: Module) -> dict[str, Any]:
    """Return what calling and differentiating the model must leave as it is, by what a message calls it."""
    found: dict[str, Any] = {}
    for prefix, module in model.named_modules():
        at = f" of {prefix}" if prefix else ""
        found[f"training{at}"] = module.training
        found[f"hooks{at}"] = [tuple(one) for name, one in vars(module).items() if name.endswith("_hooks") and one]
        for name, one in (*module._parameters.items(), *module._buffers.items()):
            found[f"{name}{at}"] = one if one is None else _identity(one)
    return found


def _identity(tensor: Any) -> tuple[Any, ...]:
    grad = tensor.grad if tensor.is_leaf else None
    return id(tensor), _version(tensor), tensor.requires_grad, None if grad is None else (id(grad), _version(grad))


def _version(tensor: Any) -> int:
    return -1 if tensor.is_inference() else int(tensor._version)


def training_flags(model: Module) -> tuple[Any, ...]:
    """Return the modes and which parameters are trained: what of a model's state is part of its name."""
    return tuple(
        (module.training, *(one is not None and one.requires_grad for one in module._parameters.values()))
        for module in model.modules()
    )


def loss_name(loss_fn: Any) -> str:
    """Name a loss function, the same in every process; settings of modules and partials included."""
    if isinstance(loss_fn, partial):
        given = [*map(repr, loss_fn.args), *(f"{name}={value!r}" for name, value in loss_fn.keywords.items())]
        return f"{loss_name(loss_fn.func)}({', '.join(given)})"
    if hasattr(loss_fn, "__qualname__"):
        return str(loss_fn.__qualname__)
    return repr(loss_fn) if hasattr(loss_fn, "_parameters") else type(loss_fn).__qualname__


def fingerprint(model: Module, *more: str) -> str:
    """Return eight hexadecimal digits of the structure: layers, shapes, what is trained or tied; never the weights."""
    lines = [f"{name}:{type(module).__qualname__}({module.extra_repr()})" for name, module in model.named_modules()]
    for name, of_one in sites(model).items():
        module, attribute = of_one[0]
        lines.append(f"{name}:{tuple(module._parameters[attribute].shape)}:{len(of_one)}")
    return hashlib.sha256("\n".join((*lines, *more)).encode()).hexdigest()[:8]


class ProblemNames:
    """Names of a problem, by the states that its model and loss were in."""

    def __init__(self) -> None:
        self._known: dict[Any, str] = {}

    def __call__(self, state: Any, model: Module, loss_fn: Any, reduction: str) -> str:
        """Return `module:LeNet:1f0c3a9b`.

        Args:
            state: The problem's `mode_key()`.
            model: For its class and structure.
            loss_fn: For its name.
            reduction: `mean` or `sum`.
        """
        key = state, loss_name(loss_fn)
        if key not in self._known:
            digits = fingerprint(model, key[1], reduction, str(training_flags(model)))
            self._known[key] = f"module:{type(model).__name__}:{digits}"
        return self._known[key]
