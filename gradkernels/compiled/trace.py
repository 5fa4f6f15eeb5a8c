"""A function of tensors as a graph of operations, after vmap and grad have been applied: what is left to compile.

torch.compile reads Python itself, and does not follow recurrent layers, swapped parameters and much else that a model
may do. Running the function once on tensors without data records the same operations whatever the Python is. The
recording has no `if`: what it depends on besides its arguments is what a kernel is built for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from gradkernels.problems.structure import Module
from gradkernels.tree import Tree


class Untraceable(RuntimeError):
    """The function cannot be recorded."""


def traced(function: Callable[..., Any], *arrays: Tree) -> Callable[..., Any]:
    """The operations of `function(*arrays)`, for arrays of these shapes."""
    from torch.fx.experimental.proxy_tensor import make_fx
    from torch.nn.attention import SDPBackend, sdpa_kernel

    try:
        # The fused kernels of attention know no vmap over their gradient and would be called once per sample.
        with sdpa_kernel(SDPBackend.MATH):
            graph: Callable[..., Any] = make_fx(function, tracing_mode="fake", _allow_non_fake_inputs=True)(*arrays)
            return graph
    except Exception as error:
        # Whatever the model's own Python raises.
        raise Untraceable(str(error)) from error


def rest_of(model: Module) -> dict[str, Any]:
    """Buffers and frozen parameters by place, each tensor once: arguments, since their values may change."""
    names: dict[int, str] = {}
    return {
        place: tensor
        for prefix, _, name, tensor in _rest(model)
        if names.setdefault(id(tensor), place := f"{prefix}.{name}") == place
    }


def _rest(model: Module) -> Iterator[tuple[str, dict[str, Any], str, Any]]:
    for prefix, module in model.named_modules():
        for kept in (module._parameters, module._buffers):
            for name, tensor in kept.items():
                if tensor is not None and not tensor.requires_grad:
                    yield prefix, kept, name, tensor


@contextmanager
def holding_rest(model: Module, rest: dict[str, Any]) -> Iterator[None]:
    """The model holds `rest` instead of its own buffers and frozen parameters; as it was afterwards."""
    before = list(_rest(model))
    given = {id(tensor): rest[f"{prefix}.{name}"] for prefix, _, name, tensor in before if f"{prefix}.{name}" in rest}
    try:
        for _, kept, name, tensor in before:
            kept[name] = given[id(tensor)]
        yield
    finally:
        for _, kept, name, tensor in before:
            kept[name] = tensor
