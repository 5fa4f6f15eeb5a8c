"""Modules that `fully_shard` has sharded: a twin that holds whole parameters for as long as a call lasts."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from operator import is_
from types import MethodType
from typing import Any

from gradkernels.batches.ranks.group import Ranks
from gradkernels.problems import BlackBox
from gradkernels.tree import Tree

SHARDING_PACKAGES = ("torch.distributed.fsdp", "torch.distributed._composable")
"""Where the classes, hooks and attributes come from that sharding adds to a module."""

SHARDING_MARKS = ("__composable_api_state_key", "_is_fsdp_managed_module", "_fsdp_use_orig_params")
"""How the names of attributes begin by which a module is known to be sharded."""


@dataclass(frozen=True, eq=False)
class Twin:
    """A module without sharding beside the one that is sharded: same classes, attributes, buffers and hooks.

    Attributes:
        problem: Of the twin.
        modules: Each sharded module with its twin.
        parameters: Each parameter, by its name, with its twin, which has no memory between calls.
    """

    problem: BlackBox
    modules: list[tuple[Any, Any]]
    parameters: dict[str, tuple[Any, Any]]

    def is_of(self, model: Any) -> bool:
        """Tell whether the module has the same parts as when the twin was made."""
        own = [one for one, _ in self.modules], [one for one, _ in self.parameters.values()]
        now = [*model.modules()], [*model.parameters()]
        return all(len(a) == len(b) and all(map(is_, a, b)) for a, b in zip(own, now, strict=True))

    def gather(self, ranks: Ranks) -> None:
        """Have the twin hold whole parameters, at the same time as the other ranks do."""
        import torch

        for one, twin in self.parameters.values():
            with torch.no_grad(), ranks.told("gather parameters"):
                twin.data = twin.new_empty(one.shape)
                twin.copy_(whole_tensor(one))  # which counts as a change, as `data` does not

    def release(self) -> None:
        """Give the memory of whole parameters back."""
        for _, twin in self.parameters.values():
            twin.data = twin.new_empty(0)


@contextmanager
def whole_parameters(problem: BlackBox, ranks: Ranks) -> Iterator[BlackBox]:
    """Yield the problem of a module that is not sharded, with the parameters of all ranks, as long as it lasts.

    Args:
        problem: Of a module that `fully_shard` has sharded.
        ranks: Among which its parameters are; all of them do this at the same time.
    """
    twin: Twin | None = problem.cache.get("twin")
    if twin is None or not twin.is_of(problem.model):
        twin = problem.cache["twin"] = _twin_of(problem)
    _refresh(twin.modules, twin.parameters)
    try:
        twin.gather(ranks)
        yield twin.problem
    finally:
        twin.release()


def resharded(model: Any) -> bool:
    """Have a module hold its shards alone, where a forward pass has left some whole; return whether it has any."""
    fsdp = sys.modules.get("torch.distributed.fsdp")
    if fsdp is None:
        return any(map(is_sharded, model.parameters()))
    for module in model.modules():
        if isinstance(module, fsdp.FSDPModule):
            module.reshard()
    kinds = fsdp.FSDPModule, fsdp.FullyShardedDataParallel
    return any(isinstance(one, kinds) for one in model.modules()) or any(map(is_sharded, model.parameters()))


def is_sharded(array: Any) -> bool:
    """Tell whether it is a tensor of which each rank has a part."""
    return type(array).__name__ == "DTensor"


def whole_tensor(array: Any) -> Any:
    """Return all of a tensor that is sharded, at the same time as other ranks do; anything else as it is."""
    return array.detach().full_tensor() if is_sharded(array) else array


def sharded_like(result: Tree, parameters: dict[str, Any]) -> Tree:
    """Return sums with this rank's part alone of what belongs to a parameter that is sharded; nothing is sent.

    Args:
        result: Dicts by name, the same on each rank, perhaps with axes in front of a parameter's; or anything else.
        parameters: By name; those that are sharded count.
    """
    if isinstance(result, dict):
        return {name: _part(one, parameters.get(name)) for name, one in result.items()}
    if isinstance(result, tuple) and hasattr(result, "_fields"):
        return type(result)(*(sharded_like(one, parameters) for one in result))
    return result


def _part(array: Any, parameter: Any) -> Any:
    if not is_sharded(parameter):
        return array
    from torch.distributed.tensor import Shard, distribute_tensor

    lead = array.ndim - parameter.ndim
    placements = [Shard(one.dim + lead) if isinstance(one, Shard) else one for one in parameter.placements]
    return distribute_tensor(array, parameter.device_mesh, placements, src_data_rank=None)


def _twin_of(problem: BlackBox) -> Twin:
    import torch

    model = problem.model
    _require_sharded_alone(model)
    modules = [(one, _bare(one)) for one in model.modules()]
    parameters = {}
    for name, one in model.named_parameters():
        twin = torch.nn.Parameter(torch.empty(one.shape, dtype=one.dtype, device=one.device), one.requires_grad)
        parameters[name] = (one, twin)
    _refresh(modules, parameters)
    made = replace(problem, model=modules[0][1])  # type: ignore[type-var]
    return Twin(made, modules, parameters)


def _refresh(modules: list[tuple[Any, Any]], parameters: dict[str, tuple[Any, Any]]) -> None:
    """Give twins the modes, attributes, buffers and hooks that a module has now.

    Args:
        modules: Each with its twin.
        parameters: Likewise, by name.
    """
    known = {id(one): twin for one, twin in [*modules, *parameters.values()]}
    for one, twin in modules:
        before, now = dict(vars(twin)), _without_sharding(vars(one), known)
        vars(twin).clear()
        vars(twin).update((name, _the_same(before.get(name), value)) for name, value in now.items())
    for one, twin in parameters.values():
        twin.requires_grad_(one.requires_grad)


def _bare(module: Any) -> Any:
    """Return an object of a module's class before it was sharded, without attributes."""
    kind = next(one for one in type(module).__mro__ if not one.__module__.startswith(SHARDING_PACKAGES))
    return object.__new__(kind)


def _require_sharded_alone(model: Any) -> None:
    """Raise a TypeError where tensors are distributed otherwise than by `fully_shard`."""
    from torch.distributed.fsdp import FSDPModule, FullyShardedDataParallel
    from torch.distributed.tensor import Replicate, Shard

    held = [one for module in model.modules() if isinstance(module, FSDPModule) for one in module.parameters()]
    known = set(map(id, held))
    for name, one in model.named_parameters():
        *others, last = one.placements if is_sharded(one) else (Shard(0),)
        plain = type(last) is Shard and all(type(other) is Replicate for other in others)
        if is_sharded(one) and (id(one) not in known or not plain):
            raise TypeError(f"{name} is distributed as {one.placements}; fully_shard alone is known, on a mesh of one "
                            "axis or of copies of shards")  # fmt: skip
    if any(isinstance(one, FullyShardedDataParallel) for one in model.modules()):
        raise TypeError("the module is a FullyShardedDataParallel, whose parameters are flat; shard it by fully_shard")


def _without_sharding(attributes: dict[str, Any], known: dict[int, Any]) -> dict[str, Any]:
    """Return a module's attributes without what sharding has added, with twins of modules and parameters.

    Args:
        attributes: Of the module.
        known: Twins, by the identity of what they are twins of.
    """
    found = {}
    for name, value in attributes.items():
        if not name.startswith(SHARDING_MARKS) and not _is_ours(value):
            kept = value
            if "_hooks" in name and isinstance(value, dict):
                kept = type(value)((key, one) for key, one in value.items() if not _is_ours(_unwrapped(one)))
            found[name] = _with_twins(kept, known)
            if name in ("_parameters", "_buffers", "_modules") and found[name] is value:
                found[name] = value.copy()  # which a call changes for a while
    return found


def _is_ours(value: Any) -> bool:
    return callable(value) and str(getattr(value, "__module__", "")).startswith(SHARDING_PACKAGES)


def _unwrapped(hook: Any) -> Any:
    """Return the function of a hook on state dicts, which torch wraps."""
    return getattr(hook, "hook", hook)


def _with_twins(value: Any, known: dict[int, Any]) -> Any:
    """Return a value with twins in the place of modules and parameters; the value itself where it has none.

    Args:
        value: Of an attribute.
        known: Twins, by the identity of what they are twins of.
    """
    if (twin := known.get(id(value))) is not None:
        return twin
    if isinstance(value, dict):
        parts = {key: _with_twins(one, known) for key, one in value.items()}
        return value if all(map(is_, parts.values(), value.values())) else value | parts  # ordered if value is
    if type(value) in (list, tuple):
        members = [_with_twins(one, known) for one in value]
        return value if all(map(is_, members, value)) else type(value)(members)
    if isinstance(value, MethodType) and id(value.__self__) in known:
        return MethodType(value.__func__, known[id(value.__self__)])
    cells = [cell.cell_contents for cell in getattr(value, "__closure__", None) or ()]
    if any(id(one) in known for one in [*cells, *getattr(value, "__dict__", {}).values()]):
        raise TypeError(f"a {type(value).__name__} in the model holds a part of it that is sharded; let modules hold "
                        "such parts, as attributes or in lists")  # fmt: skip
    return value


def _the_same(before: Any, now: Any) -> Any:
    """Return the dict of before where nothing in it has changed, so that what was proven of the twin still holds."""
    if isinstance(now, dict) and type(before) is type(now) and [*before] == [*now]:
        return before if all(map(is_, before.values(), now.values())) else now
    return now
