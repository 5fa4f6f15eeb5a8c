"""One pass: measuring processes until every kernel has its row of every case."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from gradkernels.bench.isolation import environment
from gradkernels.bench.isolation.errors import WorkerDied, says_exhausted
from gradkernels.bench.isolation.heartbeat import UNKNOWN, Beat
from gradkernels.bench.isolation.limits import ProcessLimits
from gradkernels.bench.isolation.supervisor import KILLED
from gradkernels.bench.run.measuring_process import measure_in_process
from gradkernels.bench.run.messages import MEMORY_PASS, CaseKernel, KernelMeasured, Orders, Report
from gradkernels.bench.run.plan import Plan
from gradkernels.key import Key
from gradkernels.record import Measurement, Status

DEATHS_BETWEEN_KERNELS = 2
"""Processes that may die at one case between kernels, none getting further, before something is made of it."""

KILLS_OF_ONE_KERNEL = 3
"""Processes that someone may kill while one kernel is alone in them, before the kernel is blamed."""

DEATHS_AT_START = 5
"""Processes that may die at their start before the run gives up."""


@dataclass(frozen=True)
class Quarantine:
    """Why a kernel is not tried again in this run: it ended a process, or hung.

    Attributes:
        n: Where; smaller sizes are still tried.
        status: For its rows.
        reason: For its rows.
    """

    n: int
    status: str
    reason: str


@dataclass
class OnePass:
    """One pass over the cases of a plan.

    A process that dies costs at most the kernel that is to blame. The one that was at work may be a victim, of
    another's stray pointer or greed for memory, or of a person with `kill`: so it is tried again alone, when the
    others are through, and what happens then is its own doing. So is each kernel of a case in which processes die
    between kernels. Only a hang is blamed at once on the kernel that was at work.

    Attributes:
        plan: The run.
        orders: For a process that has all to do.
        limits: Of each process.
        done: Cases and kernels that have their row.
        quarantined: Of the run so far, by kernel; more are added.
        hear: Called with the reports of this pass, and with those made up for kernels that got no further; each with
            the number of its process.
        block: Number of the process that is at work; before the first, of the last one that has rows in this pass.
        suspects: To be tried alone.
        deaths: Processes that died since one got further, by case and kernel at work.
        yardsticks: Of the process at work, those that have their row.
    """

    plan: Plan
    orders: Orders
    limits: ProcessLimits
    done: set[CaseKernel]
    quarantined: dict[str, Quarantine]
    hear: Callable[[Report, int], None]
    block: int = 0
    suspects: deque[CaseKernel] = field(default_factory=deque)
    deaths: Counter[tuple[int, int]] = field(default_factory=Counter)
    yardsticks: set[CaseKernel] = field(default_factory=set)

    def go(self) -> None:
        """Do all of it.

        Raises:
            OSError: Processes die again and again, and no kernel is to blame.
        """
        self._report_quarantined()
        self._measure(None)
        while self.suspects:
            self.deaths.clear()
            self._measure(self.suspects[0])
            self.suspects.popleft()

    def _measure(self, alone: CaseKernel | None) -> None:
        """Start processes until one gets to the end, or there is nothing left to do."""
        variables = {**environment.child_environment(self.plan.threads)}
        if self.orders.pass_ == MEMORY_PASS:
            variables |= environment.memory_environment()
        while alone not in self.done if alone else set(self._left()) - set(self.suspects):
            self.block, self.yardsticks = self.block + 1, set()
            try:
                measure_in_process(self._orders(alone), variables, self.limits, self._hear)
                return
            except WorkerDied as death:
                self._blame(death, alone)

    def _orders(self, alone: CaseKernel | None) -> Orders:
        done = sorted(self.done | set(self.suspects))
        return replace(self.orders, done=tuple(done), alone=alone)

    def _left(self) -> list[CaseKernel]:
        """List what has no row yet."""
        all_ = ((i, kernel.key) for i, case in enumerate(self.plan.cases) for kernel in self.plan.kernels_of(case))
        return [one for one in all_ if one not in self.done]

    def _hear(self, report: Report) -> None:
        one = report.case, report.kernel
        if one[0] < 0:
            raise ValueError(f"there is no case {one[0]}")
        if one not in self.done:
            self.hear(report, max(self.block, 1))  # what is not tried again has its row before there is a process
            self.done.add(one)
            self.deaths.clear()
        elif Key.parse(report.kernel).is_yardstick and one not in self.yardsticks:
            self.hear(report, self.block)  # what is timed in another process is held against the control of that one
        self.yardsticks.add(one)

    def _blame(self, death: WorkerDied, alone: CaseKernel | None) -> None:
        """Draw the consequences of the death of a process."""
        case, kernel = self._at_work(death.beat)
        self.deaths[case, kernel] += 1
        times = self.deaths[case, kernel]
        if kernel >= 0 and death.status == Status.timeout:
            self._quarantine((case, self.plan.kernels[kernel]), death)
        elif alone and times >= _deaths_of_one(death, kernel):
            self._quarantine(alone, death)
        elif kernel >= 0 and not alone:
            self.suspects.append((case, self.plan.kernels[kernel]))
        elif case >= 0 and not alone and times >= DEATHS_BETWEEN_KERNELS:
            self.suspects.extend(one for one in self._left() if one[0] == case and one not in self.suspects)
        elif times >= DEATHS_AT_START:
            raise OSError(f"a measuring process could not do its work: {self._reason(death)}")

    def _at_work(self, beat: Beat) -> tuple[int, int]:
        """Return the positions of case and kernel; of the first case that is left if a kernel wrote over the page."""
        if -1 <= beat.case < len(self.plan.cases) and UNKNOWN <= beat.kernel < len(self.plan.kernels):
            return beat.case, beat.kernel
        return next((index for index, _ in self._left()), -1), UNKNOWN

    def _quarantine(self, one: CaseKernel, death: WorkerDied) -> None:
        case, kernel = one
        self.quarantined[kernel] = Quarantine(self.plan.cases[case].n, death.status, self._reason(death))
        self._report_quarantined()

    def _reason(self, death: WorkerDied) -> str:
        limited = says_exhausted(death.reason) and self.limits.max_bytes is not None
        return death.reason + (f" (--max-bytes {self.limits.max_bytes})" if limited else "")

    def _report_quarantined(self) -> None:
        """Report what is not tried again."""
        for case, kernel in self._left():
            n, found = self.plan.cases[case].n, self.quarantined.get(kernel)
            if found and found.n <= n:
                reason = found.reason if found.n == n else f"not tried, since at n = {found.n} {found.reason}"
                measurement = Measurement(kernel, Key.parse(kernel).backend, Status(found.status), reason)
                self._hear(KernelMeasured(case, measurement))


def _deaths_of_one(death: WorkerDied, kernel: int) -> int:
    """Return how often processes with one kernel alone may die like this before it is blamed."""
    if death.reason == KILLED:
        return KILLS_OF_ONE_KERNEL
    return 1 if kernel >= 0 else DEATHS_BETWEEN_KERNELS
