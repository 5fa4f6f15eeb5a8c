"""The pass that measures memory: the first calls of each kernel, in a process of its own, before any is timed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, MutableMapping
from contextlib import suppress
from functools import partial
from typing import Any

from gradkernels.bench.run.case_reports import CaseReports, prepared_call
from gradkernels.bench.run.plan import Plan
from gradkernels.bench.timing.peak_memory import peak_bytes
from gradkernels.case import Case
from gradkernels.check.call_options import with_needed
from gradkernels.kernel import Kernel
from gradkernels.tree import take

FEW_SAMPLES = 2
"""So many for a call that loads what a kernel needs; its memory counts for nothing."""

KnownSeconds = MutableMapping[str, list[tuple[int, float]]]
"""What calls took so far: `(n, seconds)` by kernel key."""


class MemoryPass:
    """Measures the peak memory of kernels, case by case.

    Args:
        plan: The run.
        known: What calls took; added to.
    """

    def __init__(self, plan: Plan, known: KnownSeconds) -> None:
        self._plan = plan
        self._known = known

    def measure(self, case: Case, kernels: Iterable[Kernel], reports: CaseReports) -> None:
        """Report the peak of each kernel.

        Args:
            case: What they compute.
            kernels: Those that can.
            reports: Where to report.
        """
        inputs = self._plan.inputs(case)
        for kernel in kernels:
            reports.attempt(kernel, partial(self._peak, case, kernel, inputs, reports))

    def _peak(self, case: Case, kernel: Kernel, inputs: Any, reports: CaseReports) -> None:
        """Measure building and two calls: what the first takes, and what it keeps for the next, is needed too."""
        theta, *data = inputs
        with suppress(Exception):  # what is loaded once, whatever the size, is not part of a kernel's peak
            prepared_call(kernel, case, (theta, *take(tuple(data), slice(FEW_SAMPLES))))()
        arrays, wait = kernel.backend.put(inputs, case.device), kernel.backend.wait

        def build_and_call_twice() -> Any:
            compute = with_needed(kernel.build(case.problem), case, inputs, kernel.backend)
            wait(compute(*arrays))
            return clocked(self._known, kernel, case.n, lambda: wait(compute(*arrays)))

        reports.peak(kernel, peak_bytes(build_and_call_twice, case.device))


def clocked(known: KnownSeconds, kernel: Kernel, n: int, do: Callable[[], Any]) -> Any:
    """Do something and note how long it took; return its result.

    Args:
        known: Where to note it.
        kernel: That it calls.
        n: Number of samples.
        do: What to do.
    """
    started = time.perf_counter()
    result = do()
    known[kernel.key].append((n, time.perf_counter() - started))
    return result
