"""The main job: passes in fresh processes, every row written as soon as it is known."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gradkernels import record
from gradkernels.bench import environment
from gradkernels.bench.child import Event, Lost, events
from gradkernels.bench.machine import case_facts, run_facts
from gradkernels.bench.plan import Plan
from gradkernels.bench.worker import Orders
from gradkernels.case import Case
from gradkernels.record import Record

SILENCE_SECONDS = 60.0
MEMORY_PASS = 0


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
    """A run into one file.

    Args:
        plan: What to do.
        path: The results file; rows that it has already are not measured again.
        passes: How many.
        budget: Seconds for all of them.
        budget_text: As the person wrote it, for messages.
        tell: Called with the progress.
    """

    def __init__(
        self, plan: Plan, path: Path, passes: int, budget: float, budget_text: str, tell: Callable[[Progress], None]
    ) -> None:
        self.plan = plan
        self.path = path
        self.passes = passes
        self.budget_text = budget_text
        self.tell = tell
        self.deadline = time.monotonic() + budget
        self.allowance = budget / (passes + 1)  # the memory pass is one more
        self.records = record.read(path) if path.exists() else []
        self.facts = _facts(self.records)
        self.settled: set[tuple[int, str]] = set()  # (index of case, kernel): what need not be measured any more
        self.peaks = {(row.quantity, row.n, row.kernel): row.peak_bytes for row in self.records if row.peak_bytes}

    def go(self) -> list[Record]:
        """Measure what is missing; returns every record of the file."""
        self.open()
        missing = [pass_ for pass_ in range(1, self.passes + 1) if not self._complete(pass_)]
        if missing and not self.peaks:
            missing.insert(0, MEMORY_PASS)
        for position, pass_ in enumerate(missing):
            left = self.deadline - time.monotonic()
            self.measure(pass_, time.monotonic() + left / (len(missing) - position))
        return self.records

    def open(self) -> None:
        """Make the file, if it is not there."""
        if not self.path.exists():
            _create(self.path)

    def _complete(self, pass_: int) -> bool:
        return all(
            {kernel.key for kernel in self.plan.kernels_of(case)} <= self._done(index, pass_)
            for index, case in enumerate(self.plan.cases)
        )

    def of_case(self, index: int) -> list[Record]:
        """The records of a case."""
        columns = self._columns(self.plan.cases[index])
        case = tuple(columns[name] for name in record.CASE)
        return [row for row in self.records if row.case == case]

    def _done(self, index: int, pass_: int) -> set[str]:
        return {row.kernel for row in self.of_case(index) if row.pass_ == pass_}

    def _columns(self, case: Case) -> dict[str, Any]:
        return {**case_facts(case), "problem": self.plan.problem_column}

    def measure(self, pass_: int, deadline: float) -> None:
        """One pass; a child that is lost costs the kernel it was at, and another child goes on."""
        lost: set[tuple[int, str]] = set()
        finished = False
        while not finished:
            written = {(i, kernel) for i in range(len(self.plan.cases)) for kernel in self._done(i, pass_)}
            done = written | lost | self.settled
            orders = Orders(self.plan.dumps(), pass_, deadline, self.allowance, self.budget_text, tuple(sorted(done)))
            at: Event = {}
            try:
                for event in events(orders, self._environment(pass_), SILENCE_SECONDS):
                    at = event if event["event"] in ("begin", "race") else at
                    self._hear(event, pass_)
                finished = True
            except Lost as end:
                blamed = self._blamed(at, done)
                if not blamed:
                    raise OSError(f"a measuring process could not do its work: {end.reason}") from None
                for index, kernel in blamed:
                    lost.add((index, kernel))
                    self._lose(index, kernel, pass_, end)

    def _environment(self, pass_: int) -> dict[str, str]:
        extra = environment.memory_environment() if pass_ == MEMORY_PASS else {}
        return {**environment.child_environment(self.plan.threads), **extra}

    def _hear(self, event: Event, pass_: int) -> None:
        case = self.plan.cases[event["case"]]
        if event["event"] == "peak":
            self.peaks[case.quantity.name, case.n, event["kernel"]] = event["peak_bytes"]
        if event["event"] == "outcome" and pass_ != MEMORY_PASS:
            self._write(event, pass_)
        self.tell(Progress(pass_, self.passes, event["case"], len(self.plan.cases)))

    def _blamed(self, at: Event, done: set[tuple[int, str]]) -> list[tuple[int, str]]:
        """What the child was at: one kernel while it was prepared, or everything that was racing."""
        if not at:
            return []
        index = at["case"]
        if at["event"] == "begin":
            return [(index, at["kernel"])]
        racing = (kernel.key for kernel in self.plan.kernels_of(self.plan.cases[index]))
        return [(index, key) for key in racing if (index, key) not in done]

    def _lose(self, index: int, kernel: str, pass_: int, end: Lost) -> None:
        if pass_ == MEMORY_PASS:
            return
        backend = kernel.partition(".")[0]
        values = {"case": index, "kernel": kernel, "backend": backend, "status": end.status, "reason": end.reason}
        self._write(values, pass_)

    def _write(self, event: Event, pass_: int) -> None:
        case = self.plan.cases[event["case"]]
        known = {name: value for name, value in event.items() if name not in ("case", "event")}
        columns = {**self.facts, **self._columns(case), **known}
        row = Record(**{**columns, "pass_": pass_, "peak_bytes": self._peak(case.quantity.name, case.n, event)})
        record.append(self.path, [row])
        self.records.append(row)

    def _peak(self, quantity: str, n: int, event: Event) -> int | None:
        if event["status"] != "ok":
            return None
        return self.peaks.get((quantity, n, event["kernel"]))


def _create(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("x", encoding="utf-8") as file:
        file.write(record.HEADER)


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


def mend(path: Path) -> None:
    """Cut a half-written last row off a results file, as a killed run leaves it; leave any other file alone."""
    text = path.read_bytes()
    whole = text.rfind(b"\n") + 1
    if text.startswith(record.HEADER.strip().encode()) and 0 < whole < len(text):
        os.truncate(path, whole)
