"""A session of measurements: passes in fresh processes, every row written to one file as soon as it is known."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from gradkernels.bench.isolation.limits import DEFAULT_LIMITS, ProcessLimits
from gradkernels.bench.isolation.machine_slot import machine_slot
from gradkernels.bench.isolation.signals import signals_deferred
from gradkernels.bench.results.metadata import case_facts, run_facts
from gradkernels.bench.results.results_file import Mode, ResultsFile
from gradkernels.bench.run.messages import MEMORY_PASS, CaseKernel, Orders, PeakMeasured, Report
from gradkernels.bench.run.one_pass import OnePass, Quarantine
from gradkernels.bench.run.plan import Plan
from gradkernels.bench.timing.traffic import traffic
from gradkernels.case import Case
from gradkernels.key import Key
from gradkernels.record import Measurement, Record, Status

MOST_PASSES = 10_000


@dataclass(frozen=True)
class Schedule:
    """How long a session takes.

    Attributes:
        passes: How many.
        budget: Seconds for all of them.
        text: The budget as the person wrote it, for messages.
    """

    passes: int
    budget: float
    text: str

    def __post_init__(self) -> None:
        """Refuse more passes than anyone could wait for."""
        if not 1 <= self.passes <= MOST_PASSES:
            raise ValueError(f"passes is {self.passes}; it must be a whole number from 1 to {MOST_PASSES:,}")

    @property
    def allowance(self) -> float:
        """Seconds for one pass; the memory pass is one more."""
        return self.budget / (self.passes + 1)


@dataclass(frozen=True)
class SessionProgress:
    """How far a session is: the pass of so many, and how many of its cases are done."""

    pass_: int
    passes: int
    case: int
    cases: int

    @property
    def title(self) -> str:
        """`pass 3 of 8`."""
        return "measuring memory" if self.pass_ == MEMORY_PASS else f"pass {self.pass_} of {self.passes}"


TellProgress = Callable[[SessionProgress], None]


@contextmanager
def open_session(
    plan: Plan,
    path: Path,
    schedule: Schedule,
    tell: TellProgress,
    limits: ProcessLimits = DEFAULT_LIMITS,
    mode: Mode = "resume",
    alone: bool = False,
) -> Iterator[Session]:
    """Hold a results file and measure into it.

    Args:
        plan: What to do.
        path: The results file.
        schedule: How many passes, and how long they may take; the clock starts here.
        tell: Called with the progress.
        limits: Of each measuring process.
        mode: What to do with rows that the file has already; by default they are not measured again.
        alone: Whether nothing else may be measured on this machine meanwhile, as of a shard.

    Raises:
        ValueError: The file is not to be added to, or another run holds it.
        OSError: It cannot be written to.
    """
    with ExitStack() as stack:
        with signals_deferred():
            file = stack.enter_context(ResultsFile(path, mode))
        stack.enter_context(machine_slot(alone or bool(plan.part)))
        yield Session(plan, file, schedule, tell, limits)


class Session:
    """An open session; see `open_session`.

    Attributes:
        plan: What to do.
        schedule: How many passes, and how long they may take.
        records: Every record of the file; those that are measured are added.
    """

    def __init__(
        self, plan: Plan, file: ResultsFile, schedule: Schedule, tell: TellProgress, limits: ProcessLimits
    ) -> None:
        self.plan = plan
        self.schedule = schedule
        self.records = file.read()
        self._deadline = time.monotonic() + schedule.budget
        self._file = file
        self._tell = tell
        self._limits = limits
        self._facts = _facts(self.records, plan.part)
        planned = {plan.coordinates(case) for case in plan.cases}
        self._peaks = {
            (row.case, row.kernel): row.measurement.peak_bytes
            for row in self.records
            if row.measurement.peak_bytes and row.case in planned
        }
        self._settled: set[CaseKernel] = set()
        self._quarantined: dict[str, Quarantine] = {}

    @property
    def time_left(self) -> float:
        """Seconds of the budget that are left; negative when it is spent."""
        return self._deadline - time.monotonic()

    @property
    def settled(self) -> frozenset[CaseKernel]:
        """Cases and kernels that need not be measured any more."""
        return frozenset(self._settled)

    def settle(self, done: Iterable[CaseKernel]) -> None:
        """Measure these kernels on these cases no more."""
        self._settled |= set(done)

    def measure_missing(self) -> list[Record]:
        """Measure what the file lacks; return every record of it.

        Raises:
            OSError: The file cannot be written to, or no measuring process can do its work.
        """
        missing = [pass_ for pass_ in range(1, self.schedule.passes + 1) if not self._complete(pass_)]
        if missing and not self._peaks:
            missing.insert(0, MEMORY_PASS)
        for position, pass_ in enumerate(missing):
            self.measure(pass_, self.time_left / (len(missing) - position))
        return self.records

    def measure(self, pass_: int, seconds: float, without: Iterable[CaseKernel] = (), note: str = "") -> None:
        """Do one pass.

        Args:
            pass_: Its number, from 1; 0 measures memory.
            seconds: How long it should take.
            without: Cases and kernels to leave out of it, besides those that are settled.
            note: What a reader of its times should know, for the reason column.

        Raises:
            OSError: The file cannot be written to, or no measuring process can do its work.
        """
        deadline = time.monotonic() + seconds
        orders = Orders(self.plan, pass_, deadline, self.schedule.allowance, self.schedule.text)
        done = {(index, name) for index in range(len(self.plan.cases)) for name in self._done(index, pass_)}
        hear = partial(self._hear, pass_, note)
        left_out = done | self._settled | set(without)
        block = max((row.block for row in self.records if row.pass_ == pass_), default=0)
        OnePass(self.plan, orders, self._limits, left_out, self._quarantined, hear, block).go()

    def records_of(self, index: int) -> list[Record]:
        """Return the records of the plan's case at this position."""
        case = self.plan.coordinates(self.plan.cases[index])
        return [row for row in self.records if row.case == case]

    def _hear(self, pass_: int, note: str, report: Report, block: int) -> None:
        case = self.plan.cases[report.case]
        if isinstance(report, PeakMeasured):
            if report.peak_bytes is not None:
                self._peaks[self.plan.coordinates(case), report.kernel] = report.peak_bytes
        elif pass_ != MEMORY_PASS:
            self._write(case, pass_, self._completed(case, _noted(report.measurement, note)), block)
        self._tell(SessionProgress(pass_, self.schedule.passes, report.case, len(self.plan.cases)))

    def _write(self, case: Case, pass_: int, measurement: Measurement, block: int) -> None:
        facts = {**self._facts, **case_facts(case), "case": self.plan.coordinates(case)}
        row = Record(**facts, pass_=pass_, measurement=measurement, block=block)
        with signals_deferred():
            self._file.append(row)
            self.records.append(row)

    def _completed(self, case: Case, measurement: Measurement) -> Measurement:
        """Add what the measuring process does not know: the peak of the memory pass, and the traffic of the case."""
        peak = self._peaks.get((self.plan.coordinates(case), measurement.kernel))
        known = peak if measurement.status == Status.ok else None
        return replace(measurement, peak_bytes=known, least_bytes=_least_bytes(case, measurement))

    def _complete(self, pass_: int) -> bool:
        return all(
            {kernel.key for kernel in self.plan.kernels_of(case)} <= self._done(index, pass_)
            for index, case in enumerate(self.plan.cases)
        )

    def _done(self, index: int, pass_: int) -> set[str]:
        return {row.kernel for row in self.records_of(index) if row.pass_ == pass_}


def _noted(measurement: Measurement, note: str) -> Measurement:
    """Add a note to what a kernel's time is to be read with."""
    if measurement.status != Status.ok or Key.parse(measurement.kernel).kind != "kernel":
        return measurement
    return replace(measurement, reason="; ".join(filter(None, (measurement.reason, note))))


def _least_bytes(case: Case, measurement: Measurement) -> int | None:
    """Return the traffic of a kernel's case, whatever its status; of yardsticks and conversions what they say."""
    key = Key.parse(measurement.kernel)
    return measurement.least_bytes if key.is_yardstick or key.kind == "conversion" else traffic(case).least


def _facts(records: list[Record], part: str) -> dict[str, Any]:
    """Return the facts of this run, whose name tells its part; the same run goes on where a file has rows already."""
    facts = run_facts()
    facts["run"] += f"-{part}" if part else ""
    if not records:
        return facts
    last = records[-1]
    for name in ("machine", "versions", "python"):
        if getattr(last, name) != facts[name]:
            raise ValueError(
                f"--resume: the file was measured with {name} {getattr(last, name)!r}, here it is {facts[name]!r}; "
                "write to another file and compare the two"
            )
    return {**facts, "run": last.run}
