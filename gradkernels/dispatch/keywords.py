"""A compute as its callers call it: with the keyword of its quantity."""

from __future__ import annotations

from gradkernels.backend import Array
from gradkernels.kernel import Compute, Kernel
from gradkernels.memory import sealed, store
from gradkernels.problems.regression.conversion import plain_array
from gradkernels.tree import Tree, each, leaves
from gradkernels.validate import validate_out


def with_keywords(compute: Compute, kernel: Kernel, at_once: bool) -> Compute:
    """`compute`, taking `out=` or `max_norm=` where its quantity does.

    Args:
        compute: In the caller's arrays.
        kernel: That it is of.
        at_once: Whether it can write into the caller's memory itself.
    """
    if kernel.quantity.writable:
        return _with_out(compute, kernel, kernel.out and at_once)
    return _with_max_norm(compute) if "max_norm" in kernel.quantity.options else compute


def _with_max_norm(compute: Compute) -> Compute:
    def call(theta: Array, x: Array, y: Tree, max_norm: float = 1.0) -> Array:
        # A numpy scalar, such as a median of norms, would turn float32 results into float64.
        return compute(theta, x, y, max_norm=float(max_norm))

    return call


def _with_out(compute: Compute, kernel: Kernel, at_once: bool) -> Compute:
    """`compute`, taking `out=`: written to at once, or copied to."""

    def call(theta: Tree, x: Tree, y: Tree, out: Tree | None = None) -> Tree:
        if out is None:
            return compute(theta, x, y)
        validate_out(kernel.quantity, theta, x, y, out)
        if at_once and not any(map(sealed, leaves(out))):
            compute(theta, x, y, out=plain_array(out))
            return out
        each(lambda part, result: store(part, slice(None), result), out, compute(theta, x, y))
        return out

    return call
