"""How much memory a kernel takes per sample, and the chunk that keeps it within a limit.

A chunk of c samples takes about c * (2 s + r): s is what automatic differentiation saves of a sample, counted by its
own hooks on two batches of different sizes; twice that, since output gradients lie beside it; r are rows that are
formed before they are written to their place. To it come the result itself and `SCRATCH_BYTES` that every pass needs.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from contextlib import AbstractContextManager, nullcontext, suppress
from math import isqrt
from typing import Any

from gradkernels.case import Case
from gradkernels.check.modules.sample_passes import CallerBatch
from gradkernels.kernel import Kernel
from gradkernels.problems import BlackBox
from gradkernels.problems.module.split_output import Inseparable
from gradkernels.quantities.shared.outputs import OUTPUTS_AT_ONCE, output_axes
from gradkernels.quantities.shared.projections import without_kept_blocks
from gradkernels.quantity import Options, Quantity
from gradkernels.tree import Tree, count, each, leaves

SCRATCH_BYTES = 8 * 2**20
CHUNK = "chunk"
FEWER_SAMPLES, MORE_SAMPLES = 2, 6
"""Samples in the two batches that are measured."""

BYTES_OF_A_PAIR = 3 * 8
"""Of products of two samples in a chunk: of the layer at hand, their sum so far, and what is between."""

MOST_SHAPES = 4096
"""Of which something is kept."""


class TooSmall(ValueError):
    """A memory limit that not even one sample at a time stays within; says what is needed."""


class MemoryLimit:
    """Kernels of one problem, in chunks that stay within a limit.

    Args:
        problem: Of a module; what was measured of it is kept for other limits.
        max_bytes: Peak memory allowed, in bytes; None for any.
    """

    def __init__(self, problem: Any, max_bytes: int | None) -> None:
        self._problem, self._max_bytes = problem, max_bytes
        self._fitting: dict[Hashable, Kernel] = {}
        self._sample_bytes: dict[Hashable, int] = problem.cache.setdefault("bytes", {})

    def few_blocks(self) -> AbstractContextManager[None]:
        """Return a context in which random matrices are not kept for the next call, where there is a limit."""
        return nullcontext() if self._max_bytes is None else without_kept_blocks()

    def fit(
        self, kernel: Kernel, case: Case, batch: CallerBatch, shapes: Hashable, options: Options | None = None
    ) -> Kernel:
        """Return the kernel, in chunks if it takes them, that stays within the limit.

        Args:
            kernel: That is to compute the batch.
            case: What is asked, of any number of samples.
            batch: What the kernel is to be called with.
            shapes: Of the batch: what was found for one holds for others of the same.
            options: Of the call, which may decide how large its result is; None where they are not known.

        Raises:
            TooSmall: It cannot stay within the limit.
        """
        if self._max_bytes is None or not count(batch.y):
            return kernel
        n = count(batch.y) + _other_samples(case.quantity, options)
        axes = output_axes(case.quantity, batch.y)
        outputs = math.prod(axes.get("outputs", ()))
        result = result_bytes(case.quantity, batch.theta, count(batch.y), {**(options or {}), **axes} or None)
        result += case.quantity.scratch(batch.theta, **(options or {}))
        if (kernel, shapes, result) not in self._fitting:
            for known in (self._fitting, self._sample_bytes):
                if len(known) >= MOST_SHAPES:
                    known.clear()
            if shapes not in self._sample_bytes:
                self._sample_bytes[shapes] = bytes_per_sample(self._problem, batch.theta, batch.x, batch.y)
            size = self._sample_bytes[shapes]
            if axes and kernel.composed:
                n = min(n * outputs, OUTPUTS_AT_ONCE)
            elif axes:
                size += (outputs - 1) * row_bytes(batch.theta)
            self._fitting[kernel, shapes, result] = in_chunks(kernel, n, result, size, self._max_bytes)
        return self._fitting[kernel, shapes, result]


def in_chunks(kernel: Kernel, n: int, result: int, sample_bytes: int, max_bytes: int) -> Kernel:
    """Return the kernel with the largest chunk that keeps its peak within `max_bytes`, the result included.

    Args:
        kernel: For a module.
        n: Number of samples.
        result: Bytes of the result, by `result_bytes`.
        sample_bytes: What one more sample costs, by `bytes_per_sample`.
        max_bytes: Allowed.

    Raises:
        TooSmall: There is no such chunk, or the kernel has no chunks and takes more.
    """
    left = max_bytes - result - SCRATCH_BYTES
    least = min(n, 2 if kernel.quantity.pairs else 1) if _chunked(kernel) else n
    need = result + SCRATCH_BYTES + sample_bytes * least
    if need > max_bytes:
        advice = "; gk.per_sample_chunks hands rows out chunk by chunk" if result > max_bytes else ""
        raise TooSmall(f"{kernel.key} needs about {need:,} bytes, max_bytes={max_bytes:,}{advice}")
    if not _chunked(kernel):
        return kernel
    settings = dict(kernel.set_options)
    chunk = min(n, left // sample_bytes, settings.get(CHUNK, n))
    if kernel.quantity.pairs:  # c samples take c s + c^2 p bytes, with p of the products of two of them
        most = (isqrt(sample_bytes**2 + 4 * BYTES_OF_A_PAIR * left) - sample_bytes) // (2 * BYTES_OF_A_PAIR)
        chunk = max(least, min(chunk, most))
    return kernel.with_options({**settings, CHUNK: int(chunk)})


def _chunked(kernel: Kernel) -> bool:
    return CHUNK in dict(kernel.options) and not kernel.composed


def _other_samples(quantity: Quantity, options: Options | None) -> int:
    """Return how many samples a call has among its options."""
    batches = [option.name for option in quantity.options if option.batch]
    return sum(count(options[name][1]) for name in batches if name in options) if options else 0


def result_bytes(quantity: Quantity, theta: Tree, n: int, options: Options | None = None) -> int:
    """Return the bytes of the result of one call.

    Args:
        quantity: What is asked.
        theta: The parameters.
        n: Number of samples.
        options: Of the call; None for those that proofs draw.
    """
    parts, given = leaves(quantity.blank(n, theta, options)), leaves(theta)
    return sum(int(part.size) * given[i % len(given)].element_size() for i, part in enumerate(parts))


def row_bytes(theta: Tree) -> int:
    """Return the bytes of one sample's gradient."""
    return sum(one.numel() * one.element_size() for one in leaves(theta))


def bytes_per_sample(problem: BlackBox, theta: Tree, x: Tree, y: Tree) -> int:
    """Measure the bytes that one more sample in a chunk costs, besides its part of the result.

    Args:
        problem: Of a module.
        theta: The parameters.
        x: Inputs, samples first.
        y: Targets, samples first.
    """
    n = count(y)
    with problem.holding(theta) as asked:
        few, more = (_saved(problem, asked, *_resized((x, y), n, size)) for size in (FEWER_SAMPLES, MORE_SAMPLES))
    return max(0, 2 * (more - few) // (MORE_SAMPLES - FEWER_SAMPLES)) + row_bytes(asked)


def _resized(data: Tree, n: int, size: int) -> Any:
    import torch

    return each(lambda one: one[torch.arange(size, device=one.device) % n], data)


def _saved(problem: BlackBox, theta: Tree, x: Tree, y: Tree) -> int:
    """Measure the bytes that a forward pass saves for the backward pass, and its output."""
    import torch
    from torch.autograd.graph import saved_tensors_hooks

    found: dict[int, int] = {}
    kept = []

    def pack(tensor: Any) -> Any:
        storage = tensor.untyped_storage()
        found[storage.data_ptr()] = storage.nbytes()
        kept.append(tensor)  # so that no other storage takes its place
        return tensor

    with torch.inference_mode(False), torch.enable_grad(), problem.seeded():
        leaf = each(lambda one: one.detach().requires_grad_(), theta)
        # A loss that the model computes itself has been saved for by then.
        with saved_tensors_hooks(pack, lambda tensor: tensor), problem.with_parameters(leaf), suppress(Inseparable):
            problem.sample_losses(leaf, x, y).sum()
    return sum(found.values())
