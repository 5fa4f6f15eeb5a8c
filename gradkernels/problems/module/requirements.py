"""What a model and its data must be like for each sample to have a gradient of its own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from gradkernels.backend import Array
from gradkernels.problems.module.inputs import SharedPlaces, prepare
from gradkernels.problems.module.structure import Module, Parameters
from gradkernels.tree import Tree, named


def require_differentiable(model: Any, loss_fn: Any, reduction: str) -> None:
    """Refuse what is no model and loss, or has nothing to differentiate by.

    Args:
        model: What must be a `torch.nn.Module`.
        loss_fn: What must be a function of (output, target).
        reduction: What the loss is said to be: `mean` or `sum`.

    Raises:
        TypeError: The model is no module, or the loss cannot be called.
        ValueError: The model has no trainable parameters, or the loss says that it has another reduction.
    """
    import torch

    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"model is a {type(model).__name__}; it must be a torch.nn.Module")
    if not callable(loss_fn):
        raise TypeError(f"loss_fn is a {type(loss_fn).__name__}; pass a function of (output, target)")
    require_parameters(model)
    said = getattr(loss_fn, "reduction", reduction)
    said = "mean" if said == "batchmean" else said  # KLDivLoss: the mean over samples of each one's sum
    if said != reduction:
        raise ValueError(f"reduction={reduction!r}, but loss_fn has reduction={said!r}; make them equal")
    require_trained(model)


def require_trained(model: Module) -> None:
    """Raise a ValueError if there is nothing to differentiate by."""
    if not any(one.requires_grad for one in model.parameters()):
        raise ValueError(f"{type(model).__name__} has no parameter that requires a gradient")


def require_parameters(model: Module) -> None:
    """Raise a ValueError if a layer does not know its parameters yet, or TorchScript's does not give them away."""
    from torch.jit import ScriptModule
    from torch.nn.parameter import is_lazy

    for name, module in model.named_modules():
        if isinstance(module, ScriptModule):
            raise ValueError(
                f"{name or 'the model'} ({type(module).__name__}) is made by torch.jit, whose parameters cannot be "
                "exchanged; pass the module that it was made from"
            )
        if any(is_lazy(one) for one in module._parameters.values()):
            where = f"{name or 'the model'} ({type(module).__name__})"
            raise ValueError(f"{where} has no parameters yet; call the model once on a batch, then make its problem")


def require_usable(model: Module) -> None:
    """Refuse a model that gives no per-sample gradients as it is now.

    Raises:
        ValueError: It has nothing to differentiate by, a trained parameter with hooks, or a layer that mixes the
            samples of a batch.
    """
    require_trained(model)
    require_unhooked(model)
    require_samples(model)


def require_unhooked(model: Module) -> None:
    """Raise a ValueError if a hook changes the gradient of a trained parameter, which backward() alone heeds."""
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and parameter._backward_hooks:
            raise ValueError(
                f"{name} has a hook (register_hook) that backward() calls with the gradient of the whole batch, and "
                "per-sample gradients are computed without; take it off with its handle's remove(), and apply what it "
                "does to the result"
            )


def require_samples(model: Module) -> None:
    """Raise a ValueError if the model has a layer that mixes the samples of a batch."""
    from torch.nn.modules.batchnorm import _BatchNorm

    for name, module in model.named_modules():
        where = f"{name or 'the model'} ({type(module).__name__})"
        if isinstance(module, _BatchNorm) and (module.training or module.running_mean is None):
            why = "is in training mode" if module.training else "has no running statistics"
            raise ValueError(
                f"{where} {why} and normalises by the whole batch; a per-sample gradient is not defined there: "
                "call model.eval(), or use GroupNorm"
            )


def require_fit(model: Module, own: Parameters, theta: Parameters, x: Tree, y: Tree) -> None:
    """Refuse parameters and data that do not fit the model or each other.

    Args:
        model: Whose inputs they are.
        own: Its trainable parameters.
        theta: Parameters by name.
        x: Inputs, prepared.
        y: Targets, prepared.

    Raises:
        TypeError: Theta has several dtypes, which are not those of the model's `own`.
        ValueError: It has other names or shapes than they, or x and y have not as many samples as each other.
    """
    if not isinstance(theta, dict):
        raise ValueError(f"theta is a {type(theta).__name__}; it must be a dict of {_listed(own)}, or None")
    missing, extra = [one for one in own if one not in theta], [one for one in theta if one not in own]
    if missing or extra:
        says = [f"lacks {_listed(missing)}"] * bool(missing) + [f"has {_listed(extra)} besides"] * bool(extra)
        raise ValueError(f"theta {' and '.join(says)}; the model's trainable parameters are {_listed(own)}")
    for name, parameter in own.items():
        shape = tuple(parameter.shape)
        if tuple(theta[name].shape) != shape:
            raise ValueError(f"theta[{name!r}] is {tuple(theta[name].shape)}; it must be {shape} as in the model")
    dtypes = {name: theta[name].dtype for name in own}
    if len({*dtypes.values()}) > 1 and any(own[name].dtype != dtype for name, dtype in dtypes.items()):
        given = ", ".join(f"theta[{name!r}] {dtype}" for name, dtype in dtypes.items())
        raise TypeError(f"mixed dtype: {given}; convert them to one dtype, or each to that of the model's own")
    try:
        require_samples_first(x, y)
    except ValueError as error:
        raise ValueError(f"{error}{_OFFSETS if _has_bags(model) else ''}") from None


_OFFSETS = (
    ". An EmbeddingBag that is given offsets has the words of all samples on one axis: give it words as (n, words of a "
    "sample), the shorter ones filled up with its padding_idx"
)


def _has_bags(model: Module) -> bool:
    from torch.nn import EmbeddingBag

    return any(isinstance(one, EmbeddingBag) for one in model.modules())


def require_samples_first(x: Tree, y: Tree) -> None:
    """Raise a ValueError unless all arrays of x and y have a first axis of one length."""
    arrays = _arrays(x, y)
    if nested := [name for name, array in arrays.items() if getattr(array, "is_nested", False)]:
        raise ValueError(
            f"{nested[0]} is a nested tensor, whose samples have no shape in common; fill it up with "
            f"torch.nested.to_padded_tensor({nested[0]}, 0.0), and mask what was filled"
        )
    given = shapes_of(x, y)
    if not arrays or any(not array.shape for array in arrays.values()):
        raise ValueError(
            f"{given or 'x and y are empty'}: each needs the samples as its first axis; what is the same for all of "
            "them is to be named in shared= of the ModuleProblem"
        )
    if len({array.shape[0] for array in arrays.values()}) > 1:
        raise ValueError(
            f"{given}: the first axis is the samples, and must be as long for all of them; what is the same for all is "
            "to be named in shared= of the ModuleProblem"
        )


def require_example(example: Any, shared: SharedPlaces) -> None:
    """Refuse what no samples can be drawn from, unless there is no example.

    Raises:
        TypeError: It is no tuple, or something in it is no tensor.
        ValueError: It is not two, x and y have no or not as many samples as each other.
    """
    if example is None:
        return
    if not isinstance(example, tuple):
        raise TypeError(f"example is a {type(example).__name__}; it must be a tuple of two, example=(x, y)")
    if len(example) != 2:
        raise ValueError(
            f"example is a tuple of {len(example)}; it must be of two, example=(x, y); "
            "where the model takes several inputs, x is a tuple or dict of them"
        )
    example = prepare(*example, shared)
    arrays = _arrays(*example)
    for name, array in arrays.items():
        if not _is_array(array):
            raise TypeError(
                f"{name} of the example is a {type(array).__name__}; it must be a torch tensor, or a tuple or dict of "
                f"them; convert it, for instance with torch.as_tensor({name})"
            )
    try:
        require_samples_first(*example)
    except ValueError as error:
        raise ValueError(f"example: {error}") from None
    if not all(array.shape[0] for array in arrays.values()):
        raise ValueError(f"example: {shapes_of(*example)} have no samples; give at least one to draw from")


def shapes_of(x: Tree, y: Tree) -> str:
    """Return `x (8, 4), y (8,)`."""
    return ", ".join(f"{name} {tuple(array.shape)}" for name, array in _arrays(x, y).items())


def _arrays(x: Tree, y: Tree) -> dict[str, Array]:
    return dict([*named("x", x), *named("y", y)])


def _is_array(leaf: Any) -> bool:
    import torch

    return isinstance(leaf, torch.Tensor | np.ndarray)


def _listed(names: Any, most: int = 8) -> str:
    listed = [repr(name) for name in names]
    return ", ".join(listed[:most]) + (f" and {len(listed) - most} more" if len(listed) > most else "")


def require_whole(types: Iterable[type], parameters: Iterable[Any]) -> None:
    """Raise a TypeError where ranks have parts of parameters.

    Args:
        types: Of a model's modules.
        parameters: Of the model.
    """
    sharded = any(hasattr(one, "set_reshard_after_backward") for one in types)
    if sharded or any(type(one).__name__ == "DTensor" for one in parameters):
        raise TypeError("the model's parameters are sharded over ranks, and have to be gathered: call gk.over([(x, y)])"
                        ", which does so, on each rank with samples of its own")  # fmt: skip
