"""The arguments of a recording: tensors in one order, whatever trees they come from, and what tells kinds apart."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
from torch.utils import _pytree as pytree

from gradkernels.backend import Array
from gradkernels.engines.hooks.errors import Unfit
from gradkernels.problems.module.mode_key.identity import identity
from gradkernels.tree import Tree, constants, count, each, leaves, structure, with_constants

Tensors = dict[str, Array]


class Arguments:
    """What a recorded function is called with.

    Args:
        theta: Parameters by name.
        untrained: Buffers and frozen parameters by place.
        x: Inputs, samples first.
        y: Targets, samples first.
        out: Memory for the result, samples first; nothing where the function gives its result.
        more: Further tensors, of no samples.
        at_once: Whether the losses are computed by one call for all samples.

    Attributes:
        theta: The parameters by name.
        n: Number of samples.
        tensors: All tensors, in the order in which a recording takes them.
        sealed: Whether memory is given that was made under `torch.inference_mode`.
    """

    def __init__(
        self,
        theta: Tensors,
        untrained: Tensors,
        x: Tree,
        y: Tree,
        out: Tree = (),
        more: Sequence[Array] = (),
        at_once: bool = False,
    ) -> None:
        x, y = each(_laid_out, (x, y))
        self.theta, self._untrained, self._x, self._y, self._out, self._more = theta, untrained, x, y, out, more
        self._fixed = [one for one in constants((x, y)) if _is_tensor(one)]
        self._plain = [*theta.values(), *untrained.values(), *self._fixed, *more]
        self._samples = leaves((x, y, out))
        self.n = count(y)
        self.tensors = [*self._plain, *self._samples]
        self.at_once = at_once
        self.sealed = any(one.is_inference() for one in leaves(out))

    def kind(self) -> Hashable:
        """Return what a recording depends on besides the model's state and the number of samples."""
        trees = (self._x, self._y, self._out)
        numbers = [one for one in constants(trees) if not _is_tensor(one)]
        plain = tuple((one.shape, one.stride(), one.dtype, one.device) for one in self._plain)
        samples = tuple((one.shape[1:], one.stride(), one.dtype, one.device) for one in self._samples)
        return self.at_once, structure(trees), tuple(map(identity, numbers)), plain, samples

    def sizes(self) -> set[int]:
        """Return the sizes of all axes but those of the samples."""
        shapes = [one.shape for one in self._plain] + [one.shape[1:] for one in self._samples]
        return {size for shape in shapes for size in shape}

    def examples(self, n: int) -> list[Array]:
        """Return tensors of this kind for another number of samples, as `tensors`: copies of the samples, by turns."""
        at = torch.arange(n) % self.n
        count = len(self.theta)
        theta, others = self._plain[:count], self._plain[count:]
        samples = [_empty_like(one, n).copy_(one[at.to(one.device)]) for one in self._samples]
        return [*(one.detach() for one in theta), *(one.detach().clone() for one in others), *samples]

    def flat(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return `function(theta, untrained, x, y, [out,] *more)` as a function of `tensors`."""

        def flattened(*tensors: Array) -> Any:
            given = iter(tensors)
            theta, untrained = ({name: next(given) for name in named} for named in (self.theta, self._untrained))
            x, y = with_constants(lambda one: next(given) if _is_tensor(one) else one, (self._x, self._y))
            more = [next(given) for _ in self._more]
            x, y, out = each(lambda _: next(given), (x, y, self._out))
            return function(theta, untrained, x, y, *((out,) if leaves(out) else ()), *more)

        return flattened


def _is_tensor(value: Any) -> bool:
    if isinstance(value, torch.Tensor):
        return True
    if any(isinstance(one, torch.Tensor) for one in pytree.tree_leaves(value)):
        raise Unfit("torch.recorded takes no container of tensors that are the same for all samples: pass them apart")
    return False


def _laid_out(tensor: Array) -> Array:
    """Return the tensor in a layout that does not depend on the number of samples."""
    if type(tensor) is not torch.Tensor or tensor.layout is not torch.strided:
        raise Unfit(f"torch.recorded takes plain dense tensors, not a {type(tensor).__name__} of {tensor.layout}")
    if tensor.is_contiguous() or (tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last)):
        return tensor
    return tensor.contiguous()


def _empty_like(tensor: Array, n: int) -> Array:
    """Return memory for n samples in the layout of others."""
    return torch.empty_strided((n, *tensor.shape[1:]), tensor.stride(), dtype=tensor.dtype, device=tensor.device)
