"""Calls that make a weight of parameters alone, whose algebra `remade` and `normed` have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch.nn import functional

from gradkernels.backend import Array
from gradkernels.engines.hooks.arguments import ArgPath, TorchFunction, bind_by_name
from gradkernels.engines.hooks.capture import tags
from gradkernels.engines.hooks.capture.boundary import BoundaryCall, ParameterNames
from gradkernels.engines.hooks.capture.tags import Recipe
from gradkernels.engines.hooks.capture.tape import Tape
from gradkernels.engines.hooks.errors import Unfit
from gradkernels.engines.hooks.parameter_use import ParameterTensor, ParameterUse
from gradkernels.engines.hooks.rules.made.normed import NormedUse
from gradkernels.engines.hooks.rules.made.pulled import pulled_back
from gradkernels.engines.hooks.rules.made.remade import MaskedUse
from gradkernels.engines.hooks.rules.materialized import MaterializedUse

MadeOf = Mapping[ArgPath, ParameterTensor]
"""The parameters that a call takes as they are, by path."""


def remember_recipe(
    tape: Tape, func: TorchFunction, args: Any, result: Any, names: Mapping[ArgPath, ParameterNames]
) -> None:
    """Keep with a weight how it was made, if it is one of those.

    Args:
        tape: The pass.
        func: What was called, of `RECIPES`.
        args: By position.
        result: What it gave.
        names: Of the parameters among the arguments, by path.
    """
    found = {place: tape.parameter_tensor(of, args[place[1]]) for place, of in names.items() if place[0] == "args"}
    if len(found) < len(names) or not all(one.direct for one in found.values()):
        return
    recipe, tag = RECIPES[func](tape, args, result, found), tape.tracker.tag(result)
    if recipe is not None and tag is not None:
        tags.write_tag(result, tag._replace(recipe=recipe))


def remade(tape: Tape, use: ParameterUse) -> ParameterUse:
    """Return a use as one of the parameters that its weights are made of, where they are of the kinds known here."""
    made = [(place, target) for place, target in use.targets.items()
            if not target.direct and target.block is None and tape.hooked.isdisjoint(target.names)]  # fmt: skip
    for place, target in made:
        tag = tape.tracker.tag(target.tensor)
        if tag is not None and tag.recipe is not None and not isinstance(use, MaterializedUse):
            use = tag.recipe(use, place)
    for place, target in made:
        if use.targets.get(place) is target:
            use = pulled_back(tape.parameters_behind(target.names), use, place)
        tape.pulled.update(() if use.targets.get(place) is target else target.names)
    return use


def note_hook(tape: Tape, args: tuple[Any, ...]) -> None:
    """Note that the model registers a hook on what is made of parameters: autograd alone runs it.

    Raises:
        Unfit: A use of it has been taken for one of the parameters before.
    """
    names = () if (tag := tape.tracker.tag(args[0])) is None else tag.names
    tape.hooked.update(names)
    if not tape.pulled.isdisjoint(names):
        raise Unfit("a hook is registered on a weight made of parameters after a layer has used it; register it before")


def _masked(divides: bool = False) -> Callable[[Tape, Any, Array, MadeOf], Recipe | None]:
    """Return how a parameter times a factor, or divided by it, is remembered."""

    def recipe(tape: Tape, args: Any, result: Array, parameters: MadeOf) -> Recipe | None:
        if len(args) != 2 or len(parameters) != 1 or (divides and ("args", 0) not in parameters):
            return None
        (((_, at), parameter),) = parameters.items()
        factor = args[1 - at]
        if isinstance(factor, int | float):
            factor = torch.full((), factor, dtype=result.dtype, device=result.device)
        alike = result.shape == parameter.tensor.shape and result.dtype == parameter.tensor.dtype
        if not alike or factor.requires_grad or tape.tracker.tag(factor) is not None:
            return None
        factor = factor.to(result.dtype)
        return partial(MaskedUse, parameter=parameter, factor=1 / factor if divides else factor)

    return recipe


def _weight_norm(tape: Tape, args: Any, result: Array, parameters: MadeOf) -> Recipe | None:
    """Remember `_weight_norm(v, g, dim)`; without axes lengths are of the whole."""
    fixed = [one for at, one in enumerate(args[:2]) if ("args", at) not in parameters]
    if any(one.requires_grad or tape.tracker.tag(one) is not None for one in fixed):
        return None
    dim = args[2] if len(args) == 3 else 0
    dims = tuple(axis for axis in range(result.ndim) if axis != dim)
    return partial(NormedUse, parts=args[:2], parameters=[parameters.get(("args", at)) for at in range(2)], dims=dims)


def dropout_of_weight(tape: Tape, step: BoundaryCall, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Run dropout of a parameter as a product with factors that are drawn; return None where nothing is dropped.

    Args:
        tape: The pass.
        step: The call.
        args: Its arguments by position.
        kwargs: Its arguments by name.
    """
    given = bind_by_name(("input", "p", "training", "inplace"), args, kwargs)
    weight = given.pop("input")
    if given.get("inplace", False) or not given.get("training", True):
        return None
    factors = step.function(torch.ones_like(weight).detach(), **given)
    with tape:
        return weight * factors


MULTIPLICATIONS = (torch.mul, torch.Tensor.mul, torch.Tensor.__mul__, torch.Tensor.__rmul__)
QUOTIENTS = (torch.div, torch.Tensor.div, torch.Tensor.__truediv__)
RECIPES: dict[TorchFunction, Callable[[Tape, Any, Array, MadeOf], Recipe | None]] = {
    **dict.fromkeys(MULTIPLICATIONS, _masked()),
    **dict.fromkeys(QUOTIENTS, _masked(divides=True)),
    torch._weight_norm: _weight_norm,
}
"""How the results of calls are remembered."""

DROPOUT = {functional.dropout: dropout_of_weight}
"""Calls of parameters alone that are run as products."""
