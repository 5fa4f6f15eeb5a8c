"""A model that computes with copies of its buffers for a while."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

from gradkernels.backend import Array
from gradkernels.problems.module.structure import Module

AS_THEY_ARE: Mapping[str, Array] = MappingProxyType({})


def kept_buffers(model: Module, places: Collection[str] | None = None) -> dict[str, Array]:
    """Return copies of a model's buffers by their places; of all of them where no places are named."""
    return {
        place: tensor.detach().clone() for place, _, _, tensor in _placed(model) if places is None or place in places
    }


@contextmanager
def with_copied_buffers(model: Module, kept: Mapping[str, Array] = AS_THEY_ARE) -> Iterator[list[str]]:
    """Have the model compute with copies of its buffers; it has its own again afterwards.

    Args:
        model: That computes.
        kept: What `kept_buffers` gave before, for what some of them were then.

    Yields:
        A list that will name the buffers that were written to or replaced meanwhile.
    """
    held = [
        (place, buffers, name, tensor, kept.get(place, tensor).detach().clone())
        for place, buffers, name, tensor in _placed(model)
    ]
    versions = []
    written: list[str] = []
    try:
        for _, buffers, name, _, copy in held:
            buffers[name] = copy
            versions.append(copy._version)
        yield written
    finally:
        for (place, buffers, name, tensor, copy), version in zip(held, versions, strict=True):
            if copy._version != version or buffers.get(name) is not copy:
                written.append(place)
            buffers[name] = tensor


def _placed(model: Module) -> list[tuple[str, dict[str, Any], str, Array]]:
    """Return each buffer as its place, the dict that holds it, its name there, and itself."""
    return [
        (f"{prefix}.{name}".lstrip("."), one._buffers, name, tensor)
        for prefix, one in model.named_modules()
        for name, tensor in one._buffers.items()
        if tensor is not None
    ]
