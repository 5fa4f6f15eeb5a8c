"""One forward pass of the caller's, followed, and the gradients that arrive for it in the caller's backward pass."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils import _pytree as pytree

from gradkernels.backend import Array
from gradkernels.engines.hooks.accumulate.merging import FormedRows
from gradkernels.engines.hooks.accumulate.pulling import pull
from gradkernels.engines.hooks.accumulate.row_memory import RowMemory
from gradkernels.engines.hooks.parameter_use import ParameterTensor, ParameterUse
from gradkernels.problems.module.inputs import SharedPlaces
from gradkernels.problems.module.requirements import require_usable
from gradkernels.problems.module.structure import Module, sites
from gradkernels.watch.errors import CannotWatch
from gradkernels.watch.values.measure import Term


def parameters_of(model: Module) -> dict[str, Array]:
    """Return the trained parameters that a model holds, by name."""
    return {name: module._parameters[of] for name, ((module, of), *_) in sites(model).items()}


def usable_parameters(model: Module) -> dict[str, Array]:
    """Return the trained parameters by name, once the model is one whose samples have gradients; in one walk mostly.

    Raises:
        ValueError: It has a layer that mixes them, or hooks on its parameters.
    """
    found, known, mixes = dict[str, Array](), set[int](), False
    for prefix, module in model.named_modules():
        mixes = mixes or isinstance(module, _BatchNorm)
        for name, one in module._parameters.items():
            if one is not None and one.requires_grad and id(one) not in known:
                known.add(id(one))
                found[f"{prefix}.{name}".lstrip(".")] = one
    if mixes or not found or any(one._backward_hooks for one in found.values()):
        require_usable(model)
    return found


def samples_of(args: tuple[Any, ...], kwargs: dict[str, Any], shared: SharedPlaces, axis: int = 0) -> list[Array]:
    """Return the tensors that a model is called with and that have the samples along an axis, all as many.

    Args:
        args: By position.
        kwargs: By name.
        shared: Positions and names of those that are the same for all samples.
        axis: The samples', the first one if nothing is said.

    Raises:
        CannotWatch: They have not as many.
    """
    given: dict[Any, Any] = dict(enumerate(args)) | kwargs
    named = {
        f"{name}{'' if len(parts) == 1 else f'[{at}]'}": one
        for name, value in given.items()
        if name not in shared and (parts := pytree.tree_leaves(value)) is not None
        for at, one in enumerate(parts)
        if isinstance(one, torch.Tensor) and one.ndim > axis
    }
    if not named:
        raise CannotWatch("the model is called without a tensor that has the samples first")
    if len({one.shape[axis] for one in named.values()}) > 1:
        shapes = ", ".join(f"argument {name} {tuple(one.shape)}" for name, one in named.items())
        where = f"axis {axis}" if axis else "the first axis"
        raise CannotWatch(
            f"{shapes}: {where} is the samples, and must be as long for all; what is the same for all is "
            "to be named in shared= of gk.watch"
        )
    return list(named.values())


def direct_terms(use: ParameterUse, g: Array, theta: dict[str, Array]) -> Iterable[Term]:
    """Return uses of parameters, or of blocks of them, where some targets are made of parameters.

    Their rows are pulled back now: once the caller's backward pass has gone through what made them, it is gone.

    Args:
        use: The use.
        g: Gradient of its output, samples first.
        theta: Parameters by name.
    """
    made = [place for place, target in use.targets.items() if not target.direct and target.block is None]
    return _pulled_terms(use, g, theta, made) if made else ((use, g),)


def _pulled_terms(use: ParameterUse, g: Array, theta: dict[str, Array], made: list[Any]) -> Iterator[Term]:
    """Yield the use without what is made of parameters, and that as rows of these.

    Args:
        use: The use.
        g: Gradient of its output, samples first.
        theta: Parameters by name.
        made: Places of what is made of parameters.
    """
    if kept := {place: target for place, target in use.targets.items() if place not in made}:
        part = copy.copy(use)
        part.targets = kept
        yield part, g
    for place in made:
        names = use.targets[place].names
        memory = RowMemory({name: theta[name].detach().new_empty((len(g), *theta[name].shape)) for name in names})
        pull((use, place, g), theta, memory)
        for name, rows in memory.finish().items():
            whole = theta[name]
            target = ParameterTensor(whole, (name,), direct=True, whole=whole, block=range(whole.numel()))
            yield FormedRows(target), rows
