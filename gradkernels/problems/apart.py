"""A model's output of a batch, taken apart into those of its samples.

What has the samples first is cut; flags, numbers and None are the same for all. Anything else, a loss that the model
computes over the batch, router statistics, a cache, cannot be had for one sample: a loss that asks for it is told so.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import is_dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

from gradkernels.backend import Array
from gradkernels.tree import Tree

_VALUES = (bool, int, float, complex, str, bytes, type(None))


class Inseparable(ValueError):
    """A part of an output that is of the whole batch was asked for, for one sample."""


class Withheld:
    """Stands for a part of an output that cannot be had for one sample.

    Args:
        what: What it is, for the message.
    """

    def __init__(self, what: str) -> None:
        self.says = _SAYS.format(what)

    def __getattr__(self, name: str) -> Any:
        raise Inseparable(self.says)

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Raise, whatever is to be computed with it."""
        found = [one.says for one in (*args, *(kwargs or {}).values()) if isinstance(one, cls)]
        raise Inseparable(found[0] if found else _SAYS.format("a part"))

    def _refuse(self, *others: Any) -> Any:
        raise Inseparable(self.says)

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = __neg__ = _refuse
    __pow__ = __rpow__ = __matmul__ = __rmatmul__ = __getitem__ = __iter__ = __bool__ = __len__ = __float__ = _refuse


_SAYS = (
    "loss_fn takes {} of the model's output that is of the whole batch and cannot be taken apart into samples; the "
    "model has to be called on one sample at a time, as torch.vmap and torch.loop do"
)


def taken_apart(output: Tree, n: int) -> tuple[list[Array], Callable[[list[Array]], Any]]:
    """The tensors of an output that have n samples first, and what makes an output of one sample of those of one.

    Args:
        output: Of the model: in containers that torch knows, dataclasses and namespaces.
        n: Number of samples.
    """
    import torch
    from torch.utils import _pytree as pytree

    parts, spec = pytree.tree_flatten(output)
    tensors: list[Array] = []
    makers: list[Callable[[list[Array]], Any]] = []
    for part in parts:
        if isinstance(part, torch.Tensor) and part.ndim and len(part) == n:
            makers.append(partial(_one_of, at=len(tensors)))
            tensors.append(part)
        elif is_dataclass(part) or isinstance(part, SimpleNamespace):
            inner, of_one = taken_apart(vars(part), n)
            makers.append(partial(_attributes, part, of_one, slice(len(tensors), len(tensors) + len(inner))))
            tensors += inner
        else:
            makers.append(partial(_whole, _withheld(part)))
    return tensors, lambda some: pytree.tree_unflatten([make(some) for make in makers], spec)


def _one_of(some: list[Array], at: int) -> Array:
    return some[at]


def _attributes(whole: Any, of_one: Callable[[list[Array]], Any], where: slice, some: list[Array]) -> Any:
    one = copy.copy(whole)
    vars(one).update(of_one(some[where]))
    return one


def _whole(part: Any, some: list[Array]) -> Any:
    return part


def _withheld(part: Any) -> Any:
    import torch

    if isinstance(part, torch.Tensor):
        return Withheld(f"a tensor of {tuple(part.shape)}")
    return part if isinstance(part, _VALUES) else Withheld(f"a {type(part).__name__}")
