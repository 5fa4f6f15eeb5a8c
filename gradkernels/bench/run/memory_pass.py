"""The pass that measures memory: one call of each kernel, in a process of its own, before any is timed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, MutableMapping
from functools import partial
from typing import Any

from gradkernels.bench.run.case_reports import CaseReports, prepared_call
from gradkernels.bench.run.plan import Plan
from gradkernels.bench.timing.peak_memory import peak_bytes
from gradkernels.case import Case
from gradkernels.kernel import Kernel

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
        call = prepared_call(kernel, case, inputs)
        call()  # what is loaded and compiled once is not part of a call's peak
        reports.peak(kernel, clocked(self._known, kernel, case.n, partial(peak_bytes, call, case.device)))


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
