"""Where a convolution reads: its numbers, patches of its input as columns, and the weight's gradient by the library."""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from gradkernels.backend import Array

Sizes = tuple[int, ...]

KEPT_PATCH_BYTES = 1 << 22
"""Of memory that a thread keeps for patches."""


@dataclass(frozen=True)
class ConvolutionGeometry:
    """The numbers of a convolution in one to three dimensions.

    Attributes:
        shape: Of the weight, `(o, channels / groups, *kernel)`.
        stride: For each axis.
        dilation: For each axis.
        before: Zeros before each axis.
        after: Zeros behind each axis.
        groups: Of channels.
    """

    shape: Sizes
    stride: Sizes
    dilation: Sizes
    before: Sizes
    after: Sizes
    groups: int

    @property
    def kernel(self) -> Sizes:
        """The weight's size along each axis."""
        return self.shape[2:]

    @property
    def entries(self) -> int:
        """How many entries of its input an output entry has seen."""
        return math.prod(self.shape[1:])

    def padded(self, a: Array) -> Array:
        """Return the input with zeros around it."""
        if not any((*self.before, *self.after)):
            return a
        ends = zip(reversed(self.before), reversed(self.after), strict=True)
        return functional.pad(a, [size for pair in ends for size in pair])

    def places(self, g: Array) -> Array:
        """Reshape gradients of the output to `(n * groups, o / groups, steps * places)`."""
        lines = g if g.ndim == len(self.shape) else g.movedim(1, 2)
        return lines.reshape(len(g) * self.groups, self.shape[0] // self.groups, -1)

    def patches(self, a: Array, places_last: bool) -> Array:
        """Return what each output entry has seen: `(n * groups, steps * places, channels / groups * kernel)`.

        Args:
            a: Input, `(n, [steps,] channels, *places)`.
            places_last: Whether the places lie side by side in memory, else the kernel's entries.
        """
        a, dims = self.padded(a), len(self.kernel)
        first = a.ndim - dims
        for i, (size, stride, dilation) in enumerate(zip(self.kernel, self.stride, self.dilation, strict=True)):
            a = a.unfold(first + i, dilation * (size - 1) + 1, stride)[..., ::dilation]
        a = a.unflatten(first - 1, (self.groups, -1))
        steps, places = list(range(1, first - 1)), list(range(first + 1, first + 1 + dims))
        seen = [first, *range(first + 1 + dims, first + 1 + 2 * dims)]
        n = len(a) * self.groups
        if places_last:
            return a.permute(0, first - 1, *seen, *steps, *places).reshape(n, self.entries, -1).mT
        return a.permute(0, first - 1, *steps, *places, *seen).reshape(n, -1, self.entries)

    def has_runs(self, a: Array) -> bool:
        """Return whether a line of a patch is one piece of memory once the channels of the input are last."""
        return self.groups == 1 and self.dilation[-1] == 1 and a.ndim == len(self.shape)

    def runs(self, a: Array) -> Array:
        """Return the patches with their channels last, `(n, places, kernel * channels)`, copied in whole lines.

        They are in memory that the thread's next call writes to: the system gives large blocks anew at each step, page
        by page, which takes longer than to copy them.

        Args:
            a: Input, `(n, channels, *places)`.
        """
        lines = self.padded(a).movedim(1, -1).contiguous()
        along, steps = list(zip(self.kernel, self.stride, self.dilation, strict=True)), lines.stride()[1:-1]
        sizes = zip(lines.shape[1:-1], along, strict=True)
        places = [(size - dilation * (kernel - 1) - 1) // stride + 1 for size, (kernel, stride, dilation) in sizes]
        shape = len(a), *places, *self.kernel[:-1], self.kernel[-1] * lines.shape[-1]
        between = [step * stride for step, (_, stride, _) in zip(steps, along, strict=True)]
        inside = [step * dilation for step, (_, _, dilation) in zip(steps, along, strict=True)]
        seen = lines.as_strided(shape, (lines.stride(0), *between, *inside[:-1], 1))
        copied = _scratch(seen)
        _copy_lines(seen, copied)
        return copied.view(len(a), math.prod(places), -1)

    def convolved(self, a: Array, weight: Array) -> Array:
        """Return the convolution of the input `(n, [steps,] channels, *places)` by a weight of this shape."""
        merged = a if a.ndim == len(self.shape) else a.flatten(0, 1)
        padding: Sizes = (0,) * len(self.kernel)
        output = torch.convolution(
            self.padded(merged), weight, None, self.stride, padding, self.dilation, False, padding, self.groups
        )
        return output if merged is a else output.view(*a.shape[:2], *output.shape[1:])

    def gradient(self, g: Array, a: Array) -> Array:
        """Return the weight's gradient for all samples together, by the library's own backward pass."""
        g, a = (one if one.ndim == len(self.shape) else one.flatten(0, 1) for one in (g, a))
        return self._gradient(g, a, self.shape, self.groups)

    def gradients(self, g: Array, a: Array) -> Array:
        """Return the weight's gradient for each sample, `(n, *shape)`: that of a convolution of n times the groups.

        The channels of all samples are those of one input, and steps take the place of samples.
        """
        n, many = len(g), (len(g) * self.shape[0], *self.shape[1:])
        g, a = (one[None] if one.ndim == len(self.shape) else one.transpose(0, 1) for one in (g, a))
        return self._gradient(g.flatten(1, 2), a.flatten(1, 2), many, n * self.groups).view(n, *self.shape)

    def _gradient(self, g: Array, a: Array, shape: Sizes, groups: int) -> Array:
        padding: Sizes = (0,) * len(self.kernel)
        if self.before == self.after:
            padding = self.before
        else:
            a = self.padded(a)
        weight = g.new_empty(()).expand(shape)  # nothing but its shape is read
        backward: Any = torch.ops.aten.convolution_backward
        _, total, _ = backward(
            g, a, weight, None, self.stride, padding, self.dilation, False,
            (0,) * len(padding), groups, (False, True, False),
        )  # fmt: skip
        result: Array = total
        return result


def _copy_lines(seen: Array, out: Array) -> None:
    """Copy what has its last axis in lines of memory: two numbers of float32 as one where they can be.

    Lines are short, and copied number by number.

    Args:
        seen: Pieces of a tensor's memory, which may overlap.
        out: Of its shape, contiguous.
    """
    in_twos = not any(one % 2 for one in (seen.shape[-1], seen.storage_offset(), *seen.stride()[:-1]))
    if seen.dtype is torch.float32 and in_twos:
        out, seen = out.view(torch.float64), seen.view(torch.float64)
    out.copy_(seen)


_kept = threading.local()


def _scratch(like: Array) -> Array:
    """Return memory of a tensor's shape, kept for the thread where it is no more than `KEPT_PATCH_BYTES`."""
    if like.nbytes > KEPT_PATCH_BYTES:
        return like.new_empty(like.shape)
    kept, key = vars(_kept), f"{like.dtype} {like.device}"
    if key not in kept or kept[key].numel() < like.numel():
        with torch.inference_mode(False):
            kept[key] = torch.empty(like.numel(), dtype=like.dtype, device=like.device)
    memory: Array = kept[key]
    return memory[: like.numel()].view(like.shape)


def geometry_of(weight: Array, given: dict[str, Any]) -> ConvolutionGeometry:
    """Return the numbers of a call of a convolution, from its weight and all arguments by name."""
    kernel = tuple(weight.shape[2:])
    dilation = per_axis(given.get("dilation", 1), len(kernel))
    before, after = _padding(given.get("padding", 0), kernel, dilation)
    stride = per_axis(given.get("stride", 1), len(kernel))
    return ConvolutionGeometry(tuple(weight.shape), stride, dilation, before, after, given.get("groups", 1))


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
