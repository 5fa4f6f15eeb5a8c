"""Functions of torch made of other torch functions, whose body is run so that every call in it is seen.

Attention then needs no rule of its own: what it is made of are linear maps with whole or sliced weights, one
reshape after another, a softmax, and dropout.
"""

from __future__ import annotations

from types import FunctionType
from typing import Any

from torch.nn import functional

from gradkernels.engines.hooks.arguments import TorchFunction


def _nobody(*tensors: Any) -> bool:
    return False


def _body(function: Any) -> TorchFunction:
    """Return the function without its first question, whether a mode wants to take the whole call."""
    if "has_torch_function" not in function.__code__.co_names:
        raise ImportError(f"{function.__name__} of this torch is not made of other functions, as it is in torch 2.13")
    names = {**function.__globals__, "has_torch_function": _nobody}
    return FunctionType(function.__code__, names, function.__name__, function.__defaults__, function.__closure__)


COMPOSITES: dict[TorchFunction, TorchFunction] = {
    functional.multi_head_attention_forward: _body(functional.multi_head_attention_forward)
}
"""Their bodies."""
