"""The arguments of a recording: tensors in one order, whatever trees they come from, and what tells kinds apart."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch.utils import _pytree as pytree

from gradkernels.backend import Array
from gradkernels.engines.hooks.errors import Unfit
from gradkernels.problems.module.mode_key.identity import identity
from gradkernels.problems.module.mode_key.tracker import HashedTuple
from gradkernels.tree import Tree, constants, each, leaves, structure, with_constants

NamedTensors = dict[str, Array]


class Beside(NamedTuple):
    """What a recorded function takes besides theta, x and y.

    Attributes:
        out: Memory for the result, samples first, in theta's order; none where the function gives its result.
        more: Further tensors, of no samples.
        each: Further tensors, samples first.
        settings: What decides what is recorded, by name; a recording is of one value.
    """

    out: Sequence[Array] = ()
    more: Sequence[Array] = ()
    each: Sequence[Array] = ()
    settings: tuple[tuple[str, Hashable], ...] = ()


class Arguments:
    """What a recorded function is called with.

    Args:
        theta: Parameters by name.
        untrained: Buffers and frozen parameters by place.
        data: x and y, samples first.
        beside: What the function takes besides.
        at_once: Whether the losses are computed by one call for all samples.

    Attributes:
        theta: The parameters by name.
        n: Number of samples.
        beside: What the function takes besides.
        at_once: Whether the losses are computed by one call for all samples.
        model: The tensors that have no samples, but for those of `beside`.
        tensors: All tensors, in the order in which a recording takes them.
        sealed: Whether memory is given that was made under `torch.inference_mode`.
    """

    def __init__(
        self,
        theta: NamedTensors,
        untrained: NamedTensors,
        data: tuple[Tree, Tree],
        beside: Beside,
        at_once: bool = False,
    ) -> None:
        # Most are two tensors, and a walk through trees takes as long as ten operations.
        self._trees = None if type(data[0]) is type(data[1]) is torch.Tensor else data
        samples = data if self._trees is None else leaves(data)
        constant = [] if self._trees is None else [one for one in constants(data) if _is_tensor(one)]
        self.theta, self._untrained, self.beside, self.at_once = theta, untrained, beside, at_once
        self._constants = len(constant)
        self.model = [*theta.values(), *untrained.values(), *constant]
        self._samples = [*map(_laid_out, samples), *map(_laid_out, beside.each), *beside.out]
        self.n = len(samples[-1])
        self.tensors = [*self.model, *beside.more, *self._samples]
        self.sealed = bool(beside.out) and beside.out[0].is_inference()

    def changing(self) -> slice:
        """Return which of the tensors are others at each call: neither the model's nor memory for the result."""
        return slice(len(self.model), len(self.tensors) - len(self.beside.out))

    def on_one_gpu(self) -> bool:
        """Return whether all tensors are on the same GPU."""
        devices = {one.device for one in self.tensors}
        return len(devices) == 1 and next(iter(devices)).type == "cuda"

    def kind(self) -> Hashable:
        """Return what a recording depends on besides the model's state, tensors without samples, and n."""
        samples = [(one.shape[1:], one.stride(), one.dtype, one.device) for one in self._samples]
        if self._trees is None:
            return self.at_once, self.beside.settings, *samples
        numbers = [identity(one) for one in constants(self._trees) if not _is_tensor(one)]
        return self.at_once, self.beside.settings, structure(self._trees), *numbers, *samples

    def sizes(self) -> set[int]:
        """Return the sizes of all axes but those of the samples."""
        shapes = [one.shape for one in (*self.model, *self.beside.more)] + [one.shape[1:] for one in self._samples]
        return {size for shape in shapes for size in shape}

    def examples(self, n: int) -> list[Array]:
        """Return tensors of this kind for another number of samples, as `tensors`: copies of the samples, by turns."""
        at = torch.arange(n) * self.n // n  # in their order, as some models want sequences sorted by their lengths
        count = len(self.theta)
        theta, others = self.model[:count], (*self.model[count:], *self.beside.more)
        samples = [_empty_like(one, n).copy_(one[at.to(one.device)]) for one in self._samples]
        return [*(one.detach() for one in theta), *(one.detach().clone() for one in others), *samples]

    def flat(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return `function(theta, untrained, x, y, [out,] *each, *more)` as a function of `tensors`."""

        def flattened(*tensors: Array) -> Any:
            given, beside = iter(tensors), self.beside
            theta, untrained = ({name: next(given) for name in named} for named in (self.theta, self._untrained))
            fixed, more = ([next(given) for _ in range(count)] for count in (self._constants, len(beside.more)))
            data = self._data(given, iter(fixed))
            each = [next(given) for _ in beside.each]
            memory = [dict(zip(theta, given, strict=True))] if beside.out else []
            return function(theta, untrained, *data, *memory, *each, *more)

        return flattened

    def _data(self, samples: Iterator[Array], fixed: Iterator[Array]) -> tuple[Tree, Tree]:
        """Return x and y of other tensors."""
        if self._trees is None:
            return next(samples), next(samples)
        trees = with_constants(lambda one: next(fixed) if _is_tensor(one) else one, self._trees)
        x, y = each(lambda _: next(samples), trees)
        return x, y


class PlainKind:
    """Tells kinds of tensors from each other that are, most of the time, the very same ones at each call."""

    def __init__(self) -> None:
        self._tensors: list[Any] = []
        self._strides: list[Any] = []
        self._kind: Hashable = None

    def __call__(self, tensors: Sequence[Array]) -> Hashable:
        """Return shapes, layouts, dtypes and devices, as one object while nothing changes."""
        strides = [one.stride() for one in tensors]
        same = strides == self._strides and all(ref() is one for ref, one in zip(self._tensors, tensors, strict=True))
        if not same:
            self._tensors, self._strides = [*map(weakref.ref, tensors)], strides
            self._kind = HashedTuple(tuple((one.shape, one.stride(), one.dtype, one.device) for one in tensors))
        return self._kind


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
