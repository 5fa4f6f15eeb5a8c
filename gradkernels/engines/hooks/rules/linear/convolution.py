"""Convolutions in one to three dimensions: rows are products of output gradients with patches of the input.

With the patches that each output entry has seen as columns, a convolution is a linear map with the output's places
as leading axes (Rochette et al. 2019, arXiv:1912.06015, section 2). The other way is to see the gradients of each
sample as the weights of a group of their own (section 3 there). What is faster depends on the shape, and is measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.nn import functional

from gradkernels.backend import Array
from gradkernels.engines.hooks.parameter_use import ParameterUse, write_or_add
from gradkernels.engines.hooks.rules.autotune import fastest_of
from gradkernels.engines.hooks.rules.rule import LayerRule, NamedArguments, Targets, samples_first

TRIAL = 16
"""Samples by which the ways are compared: one of them may take minutes for many large images."""

PATCH_BYTES = 1 << 21
"""Of patches at a time: what stays in a core's caches."""

Sizes = tuple[int, ...]


class Convolution(ParameterUse):
    """A convolution of `(n, [steps,] channels, *places)` by weights `(o, channels / groups, *kernel)`."""

    def __init__(self, targets: Targets, a: Array, given: NamedArguments) -> None:
        self.targets = targets
        weight = given["weight"]
        self._kernel, self._groups = tuple(weight.shape[2:]), given.get("groups", 1)
        dims = len(self._kernel)
        self._stride = per_axis(given.get("stride", 1), dims)
        self._dilation = per_axis(given.get("dilation", 1), dims)
        self._before, self._after = _padding(given.get("padding", 0), self._kernel, self._dilation)
        self._a, self._shape = a, tuple(weight.shape)

    def write(self, target: Any, g: Array, out: Array, at: slice, add: bool) -> None:
        """Write sums over places for the bias, products with the patches for the weight.

        Args:
            target: Key of the target.
            g: Gradient of the output, `(n, ...)`.
            out: Memory for the rows of samples `at`.
            at: Which samples.
            add: Whether to add to what is there.
        """
        g = g[at]
        if target == "weight" and out.is_contiguous() and not add:
            self._write(g, self._a[at], out)
            return
        rows = out.new_empty(out.shape) if target == "weight" else g.sum(_summed(g, self._kernel))
        if target == "weight":
            self._write(g, self._a[at], rows)
        write_or_add(out, rows, add)

    def total(self, target: Any, g: Array) -> Array:
        """Return the weight's gradient for the whole batch, by the library's own backward pass."""
        if target == "bias":
            return g.sum((0, *_summed(g, self._kernel)))
        return self._library(*(one if one.ndim == len(self._shape) else one.flatten(0, 1) for one in (g, self._a)))

    def _library(self, g: Array, a: Array) -> Array:
        padding: Sizes = (0,) * len(self._kernel)
        if self._before == self._after:
            padding = self._before
        else:
            a = self._padded(a)
        _, total, _ = torch.ops.aten.convolution_backward(
            g, a, self.targets["weight"].tensor.detach(), None, self._stride, padding, self._dilation, False,
            (0,) * len(padding), self._groups, (False, True, False),
        )  # fmt: skip
        return total

    def _write(self, g: Array, a: Array, out: Array) -> None:
        ways: dict[str, Callable[..., None]] = {
            "patches": partial(self._by_patches, places_last=True),
            "places": partial(self._by_patches, places_last=False),
        }
        if a.ndim == g.ndim == len(self._shape):
            ways |= {"groups": self._by_groups, "each": self._by_each}
        options = self._shape, self._stride, self._dilation, self._before, self._after, self._groups
        few = g[:TRIAL], a[:TRIAL], out[:TRIAL]
        fastest_of(("convolution", options, g.shape, a.shape, g.dtype, g.device), ways, (g, a, out), few)

    def _by_patches(self, g: Array, a: Array, out: Array, places_last: bool) -> None:
        """Write G^T P for each sample and group, a few samples at a time."""
        n, groups, o = len(g), self._groups, self._shape[0]
        places = _steps_last(g, len(self._kernel)).reshape(n, groups, o // groups, -1)
        bytes_each = math.prod(self._shape[1:]) * groups * places.shape[-1] * g.element_size()
        size = max(1, PATCH_BYTES // bytes_each)
        for start in range(0, n, size):
            part = slice(start, start + size)
            patches = self._patches(a[part], places_last)
            rows = out[part].view(len(patches), o // groups, -1)
            torch.bmm(places[part].flatten(0, 1), patches, out=rows)

    def _patches(self, a: Array, places_last: bool) -> Array:
        """Return what each output entry has seen: `(n * groups, steps * places, channels / groups * kernel)`.

        In memory either the places or the kernel's entries lie side by side.
        """
        a, dims = self._padded(a), len(self._kernel)
        first = a.ndim - dims
        for i, (size, stride, dilation) in enumerate(zip(self._kernel, self._stride, self._dilation, strict=True)):
            a = a.unfold(first + i, dilation * (size - 1) + 1, stride)[..., ::dilation]
        a = a.unflatten(first - 1, (self._groups, -1))
        steps, places = list(range(1, first - 1)), list(range(first + 1, first + 1 + dims))
        seen = [first, *range(first + 1 + dims, first + 1 + 2 * dims)]
        n, entries = len(a) * self._groups, math.prod(self._shape[1:])
        if places_last:
            return a.permute(0, first - 1, *seen, *steps, *places).reshape(n, entries, -1).mT
        return a.permute(0, first - 1, *steps, *places, *seen).reshape(n, -1, entries)

    def _by_groups(self, g: Array, a: Array, out: Array) -> None:
        """Convolve the inputs, samples as channels, by the gradients, with stride and dilation exchanged."""
        n, o, c = len(g), self._shape[0], self._shape[1]
        a = self._padded(a)
        grouped = a.reshape(n * self._groups, c, *a.shape[2:]).transpose(0, 1)
        weight = g.reshape(n * o, 1, *g.shape[2:])
        convolve = (functional.conv1d, functional.conv2d, functional.conv3d)[len(self._kernel) - 1]
        full = convolve(grouped, weight, None, self._dilation, 0, self._stride, n * self._groups)
        kept = full[(slice(None), slice(None), *map(slice, self._kernel))]
        out.copy_(kept.transpose(0, 1).reshape(out.shape))

    def _by_each(self, g: Array, a: Array, out: Array) -> None:
        """Run the library's own backward pass, one sample after the other."""
        for i in range(len(g)):
            out[i] = self._library(g[i : i + 1], a[i : i + 1])

    def _padded(self, a: Array) -> Array:
        if not any((*self._before, *self._after)):
            return a
        ends = zip(reversed(self._before), reversed(self._after), strict=True)
        return functional.pad(a, [size for pair in ends for size in pair])


def per_axis(value: int | Sizes, dims: int) -> Sizes:
    """Return an option of a convolution as one number for each axis."""
    return (value,) * dims if isinstance(value, int) else tuple(value) * (dims if len(value) == 1 else 1)


def _padding(value: Any, kernel: Sizes, dilation: Sizes) -> tuple[Sizes, Sizes]:
    """Return the zeros before and after each axis; "same" puts the odd one after."""
    if value == "valid":
        value = 0
    if value != "same":
        before = per_axis(value, len(kernel))
        return before, before
    total = [step * (size - 1) for size, step in zip(kernel, dilation, strict=True)]
    return tuple(all_ // 2 for all_ in total), tuple(all_ - all_ // 2 for all_ in total)


def _summed(g: Array, kernel: Sizes) -> Sizes:
    """Return the axes of g that a sample's bias does not have."""
    channel = g.ndim - len(kernel) - 1
    return tuple(dim for dim in range(1, g.ndim) if dim != channel)


def _steps_last(g: Array, dims: int) -> Array:
    """Put steps behind the channels: `(n, channels, ...)`."""
    return g if g.ndim == dims + 2 else g.movedim(1, 2)


CONVOLUTION_ARGUMENTS = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
CONVOLUTION = LayerRule(CONVOLUTION_ARGUMENTS, ("weight", "bias"), Convolution, samples_first)
