"""What a kernel may not do besides computing wrong numbers: change its inputs, hand out memory twice, remember."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gradkernels.agreement import Disagreement
from gradkernels.backend import backend_of
from gradkernels.case import Case, Inputs
from gradkernels.kernel import Compute, Kernel
from gradkernels.quantity import leaves
from gradkernels.validate import device_of


def earlier(kernel: Kernel, compute: Compute, case: Case, inputs: Inputs) -> tuple[list[Any], Callable[[], None]]:
    """Call with other data first, so that whatever is kept or reused shows.

    Returns:
        The arrays of that call, which now hold `inputs`; and what is to be called in the end: it raises if a later
        call wrote over the result of this one.
    """
    theta, x, y = inputs
    backend, other = kernel.backend, case.problem.draw_theta(case.features, case.seed + 1).astype(theta.dtype)
    arrays = _put(kernel, case, (other, x[::-1], y[::-1]))
    result = backend.wait(compute(*arrays))
    owned(kernel, case, result, arrays)
    before = [backend.get(leaf).copy() for leaf in leaves(result)]

    def intact() -> None:
        for leaf, kept in zip(leaves(result), before, strict=True):
            if not np.array_equal(backend.get(leaf), kept, equal_nan=True):
                raise Disagreement(f"{kernel.key} wrote over the result of an earlier call")

    return _refilled(kernel, arrays, _put(kernel, case, inputs)), intact


def _refilled(kernel: Kernel, arrays: list[Any], values: list[Any]) -> list[Any]:
    if kernel.backend.name == "jax":  # its arrays cannot be written to
        return values
    for array, value in zip(arrays, values, strict=True):
        array[...] = value
    return arrays


def _put(kernel: Kernel, case: Case, inputs: Inputs) -> list[Any]:
    # "K" keeps the memory order, which is part of the case.
    return [kernel.backend.put(array.copy(order="K"), case.device) for array in inputs]


def unchanged(kernel: Kernel, arrays: list[Any], inputs: Inputs) -> None:
    """Raise a Disagreement unless `arrays` still hold `inputs`."""
    for name, array, before in zip(("theta", "x", "y"), arrays, inputs, strict=True):
        if not np.array_equal(kernel.backend.get(array), before, equal_nan=True):
            raise Disagreement(f"{kernel.key} changed its input {name}")


def owned(kernel: Kernel, case: Case, result: Any, arrays: list[Any]) -> None:
    """Refuse what is no array of the kernel's library on the case's device, or is memory of an input."""
    for leaf in leaves(result):
        if backend_of(leaf) is not kernel.backend:
            raise Disagreement(f"{kernel.key} returned a {type(leaf).__name__}, not an array of {kernel.backend.name}")
        if not device_of(leaf).startswith(case.device):
            raise Disagreement(f"{kernel.key} returned an array on {device_of(leaf)}, not on {case.device}")
        # JAX arrays cannot be written to, so sharing is harmless there.
        if kernel.backend.name != "jax" and any(
            np.may_share_memory(kernel.backend.get(leaf), kernel.backend.get(array)) for array in arrays
        ):
            raise Disagreement(f"{kernel.key} returned memory of one of its inputs")
