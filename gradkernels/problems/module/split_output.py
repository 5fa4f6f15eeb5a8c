"""A model's output of a batch, taken apart into those of its samples.

What has the samples first (`gradkernels.problems.module.output_axes`) is cut; flags, numbers and None are the same for
all. Anything else, a loss that the model computes over the batch, router statistics, a cache, cannot be had for one
sample: a loss that asks for it is told so.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import is_dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

from gradkernels.backend import Array
from gradkernels.tree import Tree

Maker = Callable[[list[Array], bool], Any]
"""`make(tensors, alone)`: a part of an output with these tensors, of one sample or of all."""

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
    "model has to be called on one sample at a time, as torch.vmap and torch.loop do. A loss_fn of what has samples, "
    "such as output.logits, with the labels as y, does without and is faster"
)


class SplitOutput:
    """An output of n samples, taken apart.

    Args:
        output: Of the model: in containers that torch knows, dataclasses and namespaces.
        have_samples: Of each tensor in it, whether it has the samples first.

    Attributes:
        tensors: Those that have.
    """

    def __init__(self, output: Tree, have_samples: Iterable[bool]) -> None:
        import torch
        from torch.utils import _pytree as pytree

        parts, self._spec = pytree.tree_flatten(output)
        self.tensors: list[Array] = []
        self._makers: list[Maker] = []
        have_samples = iter(have_samples)
        for part in parts:
            if isinstance(part, torch.Tensor) and next(have_samples):
                self._makers.append(partial(_one_of, len(self.tensors)))
                self.tensors.append(part)
            elif has_attributes(part):
                inner = SplitOutput(vars(part), have_samples)
                where = slice(len(self.tensors), len(self.tensors) + len(inner.tensors))
                self._makers.append(partial(_attributes, part, inner, where))
                self.tensors += inner.tensors
            else:
                self._makers.append(partial(_whole, part, _withheld(part)))

    def of_one(self, tensors: list[Array]) -> Any:
        """Return the output of one sample, of whose `tensors` each has an axis of length one first."""
        return self._of(tensors, alone=True)

    def of_batch(self, tensors: list[Array]) -> Any:
        """Return the output with other `tensors` in the places of its own."""
        return self._of(tensors, alone=False)

    def _of(self, tensors: list[Array], alone: bool) -> Any:
        from torch.utils import _pytree as pytree

        return pytree.tree_unflatten([make(tensors, alone) for make in self._makers], self._spec)


def has_attributes(part: Any) -> bool:
    """Tell whether a part of an output is a dataclass or a namespace, which torch does not know."""
    return isinstance(part, SimpleNamespace) or (is_dataclass(part) and hasattr(part, "__dict__"))


def untracked_shape(tensor: Array) -> tuple[int, ...]:
    """Return a tensor's shape, hidden from those who listen for uses of tensors."""
    import torch

    with torch._C.DisableTorchFunction():
        return tuple(tensor.shape)


def _one_of(at: int, tensors: list[Array], alone: bool) -> Array:
    return tensors[at]


def _attributes(whole: Any, inner: SplitOutput, where: slice, tensors: list[Array], alone: bool) -> Any:
    other = copy.copy(whole)
    vars(other).update(inner._of(tensors[where], alone))
    return other


def _whole(part: Any, withheld: Any, tensors: list[Array], alone: bool) -> Any:
    return withheld if alone else part


def _withheld(part: Any) -> Any:
    import torch

    if isinstance(part, torch.Tensor):
        return Withheld(f"a tensor of {untracked_shape(part)}")
    return part if isinstance(part, _VALUES) else Withheld(f"a {type(part).__name__}")
