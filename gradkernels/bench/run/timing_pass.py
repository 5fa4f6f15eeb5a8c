"""A pass that measures time: kernels are proven, timed in turns and proven again, case by case."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain

import numpy as np

from gradkernels.bench.isolation.errors import WorkerUnusable
from gradkernels.bench.run.case_reports import CaseReports
from gradkernels.bench.run.memory_pass import KnownSeconds
from gradkernels.bench.run.plan import Plan
from gradkernels.bench.timing.background import BackgroundLoad
from gradkernels.bench.timing.case_timing import CaseTiming
from gradkernels.bench.timing.prepared_kernel import libraries_of
from gradkernels.case import Case
from gradkernels.check.reference import Reference
from gradkernels.kernel import Kernel
from gradkernels.problems import BlackBox

LEAST_TIMING_SECONDS = 0.1


class TimingPass:
    """Times kernels, case by case; made when the libraries are loaded, whose threads may go on running.

    Args:
        plan: The run.
        known: What calls took; added to.
        rng: For placements and orders.
        note: What a reader of the times should know, for the reason column.
    """

    def __init__(self, plan: Plan, known: KnownSeconds, rng: np.random.Generator, note: str) -> None:
        self._plan = plan
        self._known = known
        self._rng = rng
        self._note = note
        self._background = BackgroundLoad()
        self._references: dict[tuple[int, int], Reference] = {}

    def measure(self, case: Case, kernels: Sequence[Kernel], reports: CaseReports, until: float) -> None:
        """Report the times of each kernel.

        Args:
            case: What they compute.
            kernels: Those that can.
            reports: Where to report.
            until: When the case should be over, on the system's monotonic clock.
        """
        started = time.monotonic()
        references = self._reference(case), self._reference(case.fresh())
        timing = CaseTiming(case, *references, libraries_of(kernels), self._rng, self._background, begin=reports.begin)
        for kernel in kernels:
            if refused := timing.prepare(kernel):
                reports.measured(refused)
        _inspect(timing, kernels, reports)
        now = time.monotonic()
        # The proofs after the timing take about as long as those before it.
        failed = timing.time(max(until - now - (now - started), LEAST_TIMING_SECONDS))
        _inspect(timing, kernels, reports)
        for found in chain(failed, timing.conclude()):
            if found.seconds_median:
                self._known[found.kernel].append((case.n, found.seconds_median))
            reports.measured(replace(found, reason="; ".join(filter(None, (found.reason, self._note)))))

    def _reference(self, case: Case) -> Reference:
        """Return the reference for a case; of a module it is dear, so that the quantities of one size share it."""
        if not isinstance(case.problem, BlackBox):
            return Reference(case.problem, *self._plan.inputs(case))
        key = (case.n, case.seed)
        if key not in self._references:
            self._references = {known: one for known, one in self._references.items() if known[0] == case.n}
            one = self._references[key] = Reference(case.problem, *self._plan.inputs(case))
            with np.errstate(all="ignore"):
                _ = one.gradient  # now, so that it counts as no kernel's time
        return self._references[key]


def _inspect(timing: CaseTiming, kernels: Sequence[Kernel], reports: CaseReports) -> None:
    """Raise WorkerUnusable if what is measured in this process means nothing."""
    try:
        timing.require_usable()
    except WorkerUnusable:
        reports.blame(kernels)
        raise
