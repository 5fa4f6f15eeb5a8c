"""The main job: passes in fresh processes, every row written as soon as it is known."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from gradkernels import record
from gradkernels.bench.isolation.limits import DEFAULT, Limits
from gradkernels.bench.isolation.signals import unstopped
from gradkernels.bench.results.metadata import case_facts, run_facts
from gradkernels.bench.results.results_file import Mode, ResultsFile
from gradkernels.bench.run.one_pass import Pass, Quarantine
from gradkernels.bench.run.order import MEMORY_PASS, Orders, Place
from gradkernels.bench.run.plan import Plan
from gradkernels.bench.run.supervisor import Event
from gradkernels.bench.timing.traffic import traffic
from gradkernels.case import Case
from gradkernels.key import Key
from gradkernels.record import Record


@dataclass(frozen=True)
class Progress:
    """How far a run is: the pass of so many, and how many of its cases are done."""

    pass_: int
    passes: int
    case: int
    cases: int

    @property
    def title(self) -> str:
        """`pass 3 of 8`."""
        return "measuring memory" if self.pass_ == MEMORY_PASS else f"pass {self.pass_} of {self.passes}"


class Run:
    """A run into one file; a context manager that holds it.

    Args:
        plan: What to do.
        path: The results file.
        passes: How many.
        budget: Seconds for all of them.
        budget_text: As the person wrote it, for messages.
        tell: Called with the progress.
        limits: Of each measuring process.
        mode: What to do with rows that the file has already; by default they are not measured again.
    """

    def __init__(
        self,
        plan: Plan,
        path: Path,
        passes: int,
        budget: float,
        budget_text: str,
        tell: Callable[[Progress], None],
        limits: Limits = DEFAULT,
        mode: Mode = "resume",
    ) -> None:
        self.plan = plan
        self.path = path
        self.passes = passes
        self.budget_text = budget_text
        self.tell = tell
        self.limits = limits
        self.mode = mode
        self.deadline = time.monotonic() + budget
        self.allowance = budget / (passes + 1)  # the memory pass is one more
        self.records: list[Record] = []
        self.settled: set[Place] = set()  # what need not be measured any more
        self.peaks: dict[tuple[str, int, str], int] = {}
        self.strikes: dict[str, Quarantine] = {}
        self._file: ResultsFile | None = None

    def __enter__(self) -> Run:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()

    def open(self) -> None:
        """Hold the file and read what it has, if that is not done yet.

        Raises:
            ValueError: It is not to be added to, or another run holds it.
            OSError: It cannot be written to.
        """
        if self._file is None:
            with unstopped():
                self._file = ResultsFile(self.path, self.mode)
            self.records = self._file.read()
            self.facts = _facts(self.records)
            self.peaks = {(row.quantity, row.n, row.kernel): row.peak_bytes for row in self.records if row.peak_bytes}

    def go(self) -> list[Record]:
        """Measure what is missing; returns every record of the file.

        Raises:
            ValueError: As `open`.
            OSError: The file cannot be written to, or no measuring process can do its work.
        """
        self.open()
        missing = [pass_ for pass_ in range(1, self.passes + 1) if not self._complete(pass_)]
        if missing and not self.peaks:
            missing.insert(0, MEMORY_PASS)
        for position, pass_ in enumerate(missing):
            left = self.deadline - time.monotonic()
            self.measure(pass_, time.monotonic() + left / (len(missing) - position))
        return self.records

    def measure(self, pass_: int, deadline: float) -> None:
        """One pass, which should be over at `deadline` on the system's monotonic clock."""
        orders = Orders(
            self.plan.dumps(), pass_, deadline, self.allowance, self.budget_text, max_bytes=self.limits.max_bytes
        )
        done = {(index, name) for index in range(len(self.plan.cases)) for name in self._done(index, pass_)}
        Pass(self.plan, orders, self.limits, done | self.settled, self.strikes, partial(self._hear, pass_)).go()

    def of_case(self, index: int) -> list[Record]:
        """The records of a case."""
        columns = self._columns(self.plan.cases[index])
        case = tuple(columns[name] for name in record.CASE)
        return [row for row in self.records if row.case == case]

    def _hear(self, pass_: int, event: Event) -> None:
        case = self.plan.cases[event["case"]]
        if event["event"] == "peak":
            self.peaks[case.quantity.name, case.n, event["kernel"]] = event["peak_bytes"]
        elif pass_ != MEMORY_PASS:
            known = {"peak_bytes": self._peak(case, event), "least_bytes": _least_bytes(case, event)}
            self._write(case, {**event, "pass_": pass_, **known})
        self.tell(Progress(pass_, self.passes, event["case"], len(self.plan.cases)))

    def _write(self, case: Case, event: Event) -> None:
        known = {name: value for name, value in event.items() if name not in ("case", "event")}
        row = Record(**{**self.facts, **self._columns(case), **known})
        assert self._file is not None
        with unstopped():
            self._file.append(row)
            self.records.append(row)

    def _peak(self, case: Case, event: Event) -> int | None:
        return self.peaks.get((case.quantity.name, case.n, event["kernel"])) if event["status"] == "ok" else None

    def _complete(self, pass_: int) -> bool:
        return all(
            {kernel.key for kernel in self.plan.kernels_of(case)} <= self._done(index, pass_)
            for index, case in enumerate(self.plan.cases)
        )

    def _done(self, index: int, pass_: int) -> set[str]:
        return {row.kernel for row in self.of_case(index) if row.pass_ == pass_}

    def _columns(self, case: Case) -> dict[str, Any]:
        return {**case_facts(case), "problem": self.plan.problem_column}


def _least_bytes(case: Case, event: Event) -> int | None:
    """Of every kernel the traffic of its case, whatever became of it; of others what they say."""
    key = Key.parse(str(event["kernel"]))  # whatever a kernel has written into the pipe
    return event.get("least_bytes") if key.is_yardstick or key.kind == "conversion" else traffic(case).least


def _facts(records: list[Record]) -> dict[str, Any]:
    """Facts of this run; the same run goes on where a file has rows already."""
    facts = run_facts()
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
