"""torch, the closed form: slopes and matrix products, without automatic differentiation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gradkernels.backend import Array
from gradkernels.engines.closed import products
from gradkernels.engines.closed.blocks import ClosedForms
from gradkernels.kernel import Compute, declare
from gradkernels.memory import empty_torch
from gradkernels.problems import Regression

ROWS = 1 << 20
# Bytes: on the CPU what a core's own cache holds; on a GPU enough to keep it busy between two launches.
MEMORY = {"cpu": 1 << 19, "cuda": 1 << 26}


def _plain(problem: Regression, rows: int, compute: Callable[..., Any]) -> Compute:
    """Return `compute(blocks, theta, x, y, ...)` for the device of theta, without a graph."""
    import torch

    blocks = {device: ClosedForms(torch, problem, rows, memory) for device, memory in MEMORY.items()}

    def call(theta: Array, x: Array, y: Any, out: Array | None = None, **options: Any) -> Any:
        # Callers may be inside inference_mode, whose tensors could not be used outside it; only its own memory
        # can be written to nowhere else.
        with torch.inference_mode(out is not None and out.is_inference()), torch.no_grad():
            given = () if out is None else (out,)
            return compute(blocks[theta.device.type], theta, x, y, *given, **options)

    return call


@declare("torch.closed.gradient", problems=Regression)
def gradient(problem: Regression, rows: int = ROWS) -> Compute:
    """Build (sum of slopes, x^T slopes) / n + l2 * (0, theta_{1..d}), a block of rows at a time."""
    return _plain(problem, rows, ClosedForms.gradient)


@declare("torch.closed.per_sample", problems=Regression, out=True)
def per_sample(problem: Regression, rows: int = ROWS) -> Compute:
    """Build rows slope * (1, x) + l2 * (0, theta_{1..d}), multiplied into their place."""

    def compute(blocks: ClosedForms, theta: Array, x: Array, y: Any, out: Array | None = None) -> Array:
        return blocks.per_sample(theta, x, y, empty_torch((len(x), *theta.shape), theta) if out is None else out)

    return _plain(problem, rows, compute)


@declare("torch.closed.norms", problems=Regression, out=True)
def norms(problem: Regression, rows: int = ROWS) -> Compute:
    """Build |slope| sqrt(1 + |x|^2), a block of rows at a time."""

    def compute(blocks: ClosedForms, theta: Array, x: Array, y: Any, out: Array | None = None) -> Array:
        return blocks.norms(theta, x, y, empty_torch((len(x),), theta) if out is None else out)

    return _plain(problem, rows, compute)


@declare("torch.closed.moments", problems=Regression)
def moments(problem: Regression, rows: int = ROWS) -> Compute:
    """Build mean and centred squares of each block of rows, merged."""
    return _plain(problem, rows, ClosedForms.moments)


@declare("torch.closed.clipped_sum", problems=Regression)
def clipped_sum(problem: Regression, rows: int = ROWS) -> Compute:
    """Build sums of scaled slopes, a block of rows at a time."""
    return _plain(problem, rows, ClosedForms.clipped_sum)


@declare("torch.closed.weighted_sum", problems=Regression)
def weighted_sum(problem: Regression, rows: int = ROWS) -> Compute:
    """Build x^T (weights * slopes), a block of rows at a time."""
    return _plain(problem, rows, products.weighted_sum)


@declare("torch.closed.group_sums", problems=Regression)
def group_sums(problem: Regression, rows: int = ROWS) -> Compute:
    """Build sums by group, a block of rows at a time."""
    return _plain(problem, rows, products.group_sums)


@declare("torch.closed.inner", problems=Regression)
def inner(problem: Regression, rows: int = ROWS) -> Compute:
    """Build slopes . (v_0 + x v), a block of rows at a time."""
    return _plain(problem, rows, products.inner)


@declare("torch.closed.outer", problems=Regression)
def outer(problem: Regression, rows: int = ROWS) -> Compute:
    """Build g^T g of a block of rows at a time; with groups, of the sums by group of all."""
    return _plain(problem, rows, products.outer)
