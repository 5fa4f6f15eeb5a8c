"""BackPACK: the cases that it refuses, and a copy of the model that it has extended."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from gradkernels.case import Case
from gradkernels.engines.peers.model_copy import PeerLibrary
from gradkernels.engines.peers.reasons import group_by_reason, half_precision_reasons, trainable
from gradkernels.kernel import Refuses
from gradkernels.problems.module.structure import Module


def refuses(case: Case) -> list[str]:
    """Return why BackPACK cannot do a case: layers or settings without a rule, tied parameters."""
    problem: Any = case.problem
    layers = list(trainable(problem.model))
    reasons = group_by_reason((name, module, reason) for name, module in layers for reason in _of_layer(module))
    tied = [name for name, places in problem.sites().items() if len(places) > 1]
    if tied:
        reasons.append(f"BackPACK overwrites the results of tied parameters such as {tied[0]}")
    if problem.randomness != "error":
        reasons.append(f"BackPACK has no randomness={problem.randomness!r}; use torch.loop or torch.vmap")
    if any(type(module).__name__ == "Embedding" for _, module in layers) and case.dtype != (usual := _usual_dtype()):
        reasons.append(f"BackPACK computes the rows of an Embedding in {usual}, torch's default dtype, only")
    return reasons


def refuses_norms(case: Case) -> list[str]:
    """Return why BackPACK cannot do the norms of a case."""
    problem: Any = case.problem
    reasons = group_by_reason(
        (name, module, "BackPACK's norms of {} do not look at groups")
        for name, module in trainable(problem.model)
        if hasattr(module, "padding_mode") and module.groups > 1
    )
    return [*refuses(case), *reasons, *half_precision_reasons(case, "BackPACK")]


def refuses_variance(case: Case) -> list[str]:
    """Return why BackPACK cannot do the variance of a case."""
    return [*refuses(case), *half_precision_reasons(case, "BackPACK")]


def _usual_dtype() -> str:
    import torch

    return str(torch.get_default_dtype()).removeprefix("torch.")


def _of_layer(module: Module) -> Iterator[str]:
    from backpack.extensions import BatchGrad

    # BackPACK keeps its list of layers, the same for all extensions used here, and its own checks to itself.
    known = vars(BatchGrad())["_BackpropExtension__module_extensions"]
    if (rule := known.get(type(module))) is None:
        yield "BackPACK has no rule for {}; it has those for " + ", ".join(sorted(kind.__name__ for kind in known))
        return
    check = getattr(rule._derivatives, "_check_parameters", None)
    try:
        if check is not None:
            check(module)
    except NotImplementedError as error:
        yield "BackPACK refuses {}: " + str(error).rstrip(".")
    if getattr(module, "padding_mode", "zeros") != "zeros" or isinstance(getattr(module, "padding", 0), str):
        yield "BackPACK does not look at padding_mode and padding by name of {}"
    if any(getattr(module, "output_padding", ())):
        yield "BackPACK does not look at output_padding of {}"


def library(way: str, savefield: str, refuses: Refuses) -> PeerLibrary:
    """Return BackPACK with the results in `savefield` of each parameter.

    Args:
        way: The kernel's way, for messages.
        savefield: Attribute of a parameter.
        refuses: Says what it cannot do.
    """
    watches: list[Any] = []

    def prepare(model: Module) -> Module:
        from backpack import extend

        watches.extend(_watches(model))
        extended: Module = extend(model)
        return extended

    def forget(parameter: Any) -> None:
        while watches:  # a copy's first call has gone well
            watches.pop().remove()
        if hasattr(parameter, savefield):
            delattr(parameter, savefield)

    return PeerLibrary(way, prepare, forget, refuses=refuses)


def _watches(model: Module) -> Iterator[Any]:
    """Yield hooks that refuse a second call of a layer, of which BackPACK would keep one result without a word."""
    for name, module in trainable(model):
        yield module.register_forward_pre_hook(partial(_refuse_twice, name))


def _refuse_twice(name: str, module: Module, inputs: Any) -> None:
    if hasattr(module, "output"):
        raise NotImplementedError(f"the model calls {name} twice, and BackPACK keeps the results of one call")
