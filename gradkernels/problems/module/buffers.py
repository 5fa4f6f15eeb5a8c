"""A model that computes with copies of its buffers for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from gradkernels.problems.module.structure import Module


@contextmanager
def with_copied_buffers(model: Module) -> Iterator[list[str]]:
    """Have the model compute with copies of its buffers; it has its own again afterwards.

    Yields:
        A list that will name the buffers that were written to or replaced meanwhile.
    """
    held = [
        (f"{prefix}.{name}".lstrip("."), one._buffers, name, tensor, tensor.detach().clone())
        for prefix, one in model.named_modules()
        for name, tensor in one._buffers.items()
        if tensor is not None
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
            if buffers.get(name) is not copy or copy._version != version:
                written.append(place)
            buffers[name] = tensor
