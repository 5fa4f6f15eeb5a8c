"""A trial of the proven kernels on a caller's batch, where no measurement says which of them is fastest."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from gradkernels.backend import BACKENDS
from gradkernels.check.call_options import with_needed
from gradkernels.dispatch.request import Request
from gradkernels.dispatch.select import Choice, ranked_choice
from gradkernels.kernel import Compute, Kernel
from gradkernels.tree import Tree, count, leaves

MOST_TRIAL_BYTES = 2**30
"""Of all rows of a batch: with more, what holds them is not tried, whatever else the batch leaves of the memory."""

TRIAL_CALLS = 3


def is_open(choice: Choice, arrays: tuple[Tree, Tree, Tree]) -> bool:
    """Return whether a choice was made by a rule, on a batch whose rows are small enough to try what holds them.

    Args:
        choice: Of a kernel.
        arrays: `(theta, x, y)` of the call.
    """
    n = count(arrays[2])
    return not choice.costs and 0 < n * sum(array.nbytes for array in leaves(arrays[0])) <= MOST_TRIAL_BYTES


def by_trial(
    request: Request, choice: Choice, proven: Mapping[Kernel, Compute], arrays: tuple[Tree, Tree, Tree]
) -> Choice:
    """Return the choice of the kernel that took the least time on a batch, calls in turns.

    Args:
        request: What is to be computed.
        choice: By a rule.
        proven: What may be chosen.
        arrays: `(theta, x, y)` of the call.
    """
    library = BACKENDS["jax"]
    inputs = library.get(arrays)
    calls = {one: with_needed(compute, request.case, inputs, library) for one, compute in proven.items()}
    for call in calls.values():
        _seconds(call, arrays)  # which compiles it
    turns = [{one: _seconds(call, arrays) for one, call in calls.items()} for _ in range(TRIAL_CALLS)]
    costs = {one: min(turn[one] for turn in turns) for one in calls}
    return ranked_choice(min(costs, key=lambda one: costs[one]), "a trial on this batch", costs, choice.refused)


def _seconds(call: Callable[..., Any], arrays: tuple[Tree, Tree, Tree]) -> float:
    start = time.perf_counter()
    BACKENDS["jax"].wait(call(*arrays))
    return time.perf_counter() - start
