"""What a kernel may not do besides computing wrong numbers: change its inputs, hand out memory twice, remember."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gradkernels.backend import backend_of
from gradkernels.case import Case, Inputs
from gradkernels.check.compare_arrays import Disagreement
from gradkernels.kernel import Compute, Kernel
from gradkernels.problems import BlackBox, Problem
from gradkernels.quantity import Options
from gradkernels.tree import each, leaves, named, take
from gradkernels.validate import device_of


def prime_with_other_data(
    kernel: Kernel, compute: Compute, case: Case, inputs: Inputs, options: Options
) -> tuple[Inputs, Callable[[], None]]:
    """Call a kernel on other data first, so that whatever is kept or reused shows.

    Args:
        kernel: What is proven.
        compute: What `kernel.build` returned for the case's problem.
        case: What to compute.
        inputs: numpy arrays `(theta, x, y)` of the proof.
        options: Without which the quantity has no result.

    Returns:
        The arrays of that call, which now hold `inputs`; and what is to be called in the end: it raises if a later
        call wrote over the result of this one, or any of them changed the state of the problem.
    """
    theta, x, y = inputs
    backend, state = kernel.backend, _state_of(case.problem)
    drawn = case.problem.draw_theta(case.features, case.seed + 1)
    other = each(lambda part, values: values.astype(part.dtype), theta, drawn)
    arrays = _put(kernel, case, (other, *take((x, y), slice(None, None, -1))))
    result = backend.wait(compute(*arrays, **options))
    require_unaliased(kernel, case, result, arrays)
    before = [backend.get(leaf).copy() for leaf in leaves(result)]

    def intact() -> None:
        for leaf, kept in zip(leaves(result), before, strict=True):
            if not np.array_equal(backend.get(leaf), kept, equal_nan=True):
                raise Disagreement(f"{kernel.key} wrote over the result of an earlier call")
        require_same_state(kernel, state, _state_of(case.problem))

    return _refilled(kernel, arrays, _put(kernel, case, inputs)), intact


def require_same_state(kernel: Kernel, before: dict[str, Any], now: dict[str, Any]) -> None:
    """Raise a Disagreement that names what of a model's state is not what it was.

    Args:
        kernel: What was called meanwhile.
        before: `BlackBox.state()` then.
        now: `BlackBox.state()` now.
    """
    if changed := [name for name in before.keys() | now.keys() if before.get(name) != now.get(name)]:
        raise Disagreement(f"{kernel.key} left the model changed: {', '.join(sorted(changed)[:4])}")


def _state_of(problem: Problem) -> dict[str, Any]:
    return problem.state() if isinstance(problem, BlackBox) else {}


def _refilled(kernel: Kernel, arrays: Inputs, values: Inputs) -> Inputs:
    if kernel.backend.arrays.read_only:
        return values
    for array, value in zip(leaves(arrays), leaves(values), strict=True):
        array[...] = value
    return arrays


def _put(kernel: Kernel, case: Case, inputs: Inputs) -> Inputs:
    # "K" keeps the memory order, which is part of the case.
    placed: Inputs = kernel.backend.put(each(lambda array: array.copy(order="K"), inputs), case.device)
    return placed


def require_unchanged(
    kernel: Kernel, arrays: Inputs, inputs: Inputs, options: tuple[Sequence[Any], Sequence[Any]] = ((), ())
) -> None:
    """Raise a Disagreement unless a kernel has left its inputs as they were.

    Args:
        kernel: What was called.
        arrays: What it was called with, in its own library.
        inputs: The same as numpy arrays, from before.
        options: The arrays among its options, in its own library and as numpy arrays from before.
    """
    kept = [pair for tree in zip(("theta", "x", "y"), inputs, strict=True) for pair in named(*tree)]
    for array, (name, before) in zip(leaves(arrays), kept, strict=True):
        if not np.array_equal(kernel.backend.get(array), before, equal_nan=True):
            raise Disagreement(f"{kernel.key} changed its input {name}")
    for array, before in zip(*options, strict=True):
        if not np.array_equal(kernel.backend.get(array), before, equal_nan=True):
            raise Disagreement(f"{kernel.key} changed one of its options")


def require_unaliased(kernel: Kernel, case: Case, result: Any, arrays: tuple[Any, ...]) -> None:
    """Refuse what is no array of the kernel's library on the case's device, or is memory of an input.

    Args:
        kernel: What was called.
        case: For its device.
        result: What came back.
        arrays: What it was called with.
    """
    for leaf in leaves(result):
        if backend_of(leaf) is not kernel.backend.host:
            raise Disagreement(
                f"{kernel.key} returned a {type(leaf).__name__}, not an array of {kernel.backend.host.name}"
            )
        if getattr(leaf, "requires_grad", False):
            raise Disagreement(f"{kernel.key} returned an array that is part of a graph; detach it")
        if not device_of(leaf).startswith(case.device):
            raise Disagreement(f"{kernel.key} returned an array on {device_of(leaf)}, not on {case.device}")
        # Sharing what cannot be written to is harmless.
        if not kernel.backend.arrays.read_only and any(
            np.may_share_memory(kernel.backend.get(leaf), kernel.backend.get(array)) for array in leaves(arrays)
        ):
            raise Disagreement(f"{kernel.key} returned memory of one of its inputs")
