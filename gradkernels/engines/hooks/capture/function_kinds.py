"""Kinds of functions: those that give metadata only, those that draw random numbers, those that tell what data hold."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from gradkernels.engines.hooks.arguments import function_name
from gradkernels.engines.hooks.capture.composite_functions import COMPOSITES

_METADATA = frozenset(
    ("shape", "dtype", "device", "ndim", "layout", "requires_grad", "is_leaf", "grad_fn", "is_cuda", "is_cpu",
     "is_meta", "is_sparse", "is_quantized", "is_nested", "names", "grad", "size", "dim", "numel", "nelement", "stride",
     "storage_offset", "is_contiguous", "is_floating_point", "is_complex", "is_inference", "data_ptr", "element_size",
     "itemsize", "nbytes", "get_device", "untyped_storage", "is_pinned", "is_same_size", "__len__", "__hash__",
     "__repr__", "retain_grad", "_version", "_is_view", "new_zeros", "new_ones", "new_empty",
     "new_full", "new_tensor")
)  # fmt: skip
"""What gives no tensor that anything is computed with, or one that is the same whatever the data are."""


_LOOKS = frozenset(
    getattr(torch.Tensor, name) for name in ("item", "tolist", "__bool__", "__int__", "__float__", "__index__")
)
"""What gives Python a number that data hold, by which it may take another path for other data."""


class Answers(TorchFunctionMode):
    """Hears what data tell the Python that runs within it, and changes nothing.

    Attributes:
        given: The answers, in their order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.given: list[Any] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the call as it is."""
        answer = func(*args, **(kwargs or {}))
        if func in _LOOKS:
            self.given.append(answer)
        return answer


_DRAW = frozenset(
    ("rand", "randn", "randint", "randperm", "normal", "bernoulli", "multinomial", "poisson", "rand_like", "randn_like",
     "randint_like", "normal_", "uniform_", "bernoulli_", "random_", "exponential_", "cauchy_", "geometric_",
     "log_normal_", "dropout", "dropout_", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_dropout",
     "feature_alpha_dropout", "rrelu", "gumbel_softmax", "binomial", "_standard_gamma", "_sample_dirichlet")
)  # fmt: skip


_LIKE = frozenset(("to", "type_as", "expand_as", "view_as", "reshape_as"))
"""What makes another tensor of the first argument, and may ask a further one for its dtype, device or shape alone."""


def draws_random(func: Any) -> bool:
    """Return whether a function draws random numbers."""
    return getattr(func, "__name__", "") in _DRAW


def function_kind(func: Any, special: Container[Any]) -> str:
    """Return what is asked first of a function: `metadata`, `looks`, `composite`, `like`, `special`, `draws` or `any`.

    Args:
        func: Of torch.
        special: Functions that are run otherwise for some of their data.
    """
    if func in COMPOSITES:
        return "composite"
    name = function_name(func)
    if func in _LOOKS:
        return "looks"
    if name in _METADATA:
        return "metadata"
    if name in _LIKE:
        return "like"
    return "special" if func in special else "draws" if draws_random(func) else "any"
