"""A run spread over machines by an executor: each case is a job, and its rows come back into one file.

What an executor does with a worker that dies is to fail the job. The case is then given to it anew, three times at
most. The first complete answer of a case is written, in one piece, and whatever comes later for it is dropped.
"""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from dataclasses import dataclass, field
from pathlib import Path

from gradkernels.bench.isolation.errors import describe_fault
from gradkernels.bench.isolation.limits import ProcessLimits
from gradkernels.bench.results.results_file import Mode, ResultsFile
from gradkernels.bench.run.plan import Plan
from gradkernels.bench.run.resume import require_same_plan
from gradkernels.bench.run.session import Schedule
from gradkernels.bench.sweep.jobs import CaseJob, jobs_of, measure_case
from gradkernels.names import counted
from gradkernels.record import Record
from gradkernels.record.reading import parse

ATTEMPTS = 3
"""Workers that a case is given to, one after the other, before it is left out."""

LOOK_SECONDS = 10.0
"""Without an answer, after which the executor is asked whether it takes jobs at all."""

TellCases = Callable[[int, int], None]
"""Called with how many cases have their rows, and of how many."""


def spread_out(
    plans: Sequence[Plan],
    target: tuple[Path, Mode],
    schedule: Schedule,
    limits: ProcessLimits,
    executor: Executor,
    tell: TellCases,
) -> list[Record]:
    """Measure every case that the file lacks on some machine of an executor; return all rows of the file.

    Args:
        plans: Of the run.
        target: The results file, and what to do with rows that it has.
        schedule: Of all cases together: on several machines they are through earlier.
        limits: Of each measuring process.
        executor: Whatever runs functions on machines that have gradkernels installed.
        tell: Called with the progress.

    Raises:
        ValueError: The file is not to be added to, or was begun with another plan.
        CasesLost: Some were lost with their workers three times.
        OSError: The file cannot be written to.
        TypeError: It is no executor.
    """
    path, mode = target
    with ResultsFile(path, mode) as file:
        spread = Spread(file, executor, tell, file.read())
        require_same_plan(plans, path, spread.records)
        jobs = jobs_of(plans, schedule, limits)
        missing = [job for job in jobs if not _complete(job, spread.records)]
        spread.go(missing, len(jobs))
        if spread.lost:
            raise CasesLost(_lost(spread.lost), path)
        return spread.records


class CasesLost(OSError):
    """Cases were not measured by any worker; the rows of the others are in the file.

    Attributes:
        why: Which, and why.
    """

    def __init__(self, why: str, path: Path) -> None:
        super().__init__(f"{why}; the other rows are in {path}, and --resume goes on")
        self.why = why


@dataclass
class Spread:
    """Jobs at an executor.

    Attributes:
        file: Where rows go.
        executor: Runs jobs.
        tell: Called with the progress.
        records: All rows of the file.
        lost: Jobs that no worker brought to an end, and why.
    """

    file: ResultsFile
    executor: Executor
    tell: TellCases
    records: list[Record]
    lost: list[tuple[CaseJob, str]] = field(default_factory=list)
    _begun: dict[Future[str], tuple[CaseJob, int]] = field(default_factory=dict)

    def go(self, jobs: Sequence[CaseJob], cases: int) -> None:
        """Bring jobs to an end, those of the largest cases first.

        Args:
            jobs: What the file lacks.
            cases: How many there are with those that it has.
        """
        try:
            for job in jobs:
                self._begin(job, 1)
            while self._begun:
                done = wait(self._begun, LOOK_SECONDS, FIRST_COMPLETED).done
                for future in done:
                    self._hear(future)
                    self.tell(cases - len(self._begun) - len(self.lost), cases)
                if not done:
                    self._look()
        finally:
            for future in self._begun:  # of a run that was stopped, or has no room
                future.cancel()

    def _begin(self, job: CaseJob, attempt: int) -> None:
        try:
            future = self.executor.submit(measure_case, job)
        except Exception as error:  # the pool is broken or was shut down, as RuntimeError or whatever its library says
            self.lost.append((job, describe_fault(error)))
            return
        if not isinstance(future, Future):
            raise TypeError(f"submit of {type(self.executor).__name__} returned a {type(future).__name__}; it must "
                            "return a concurrent.futures.Future")  # fmt: skip
        self._begun[future] = job, attempt

    def _look(self) -> None:
        """Wait for nothing more where the executor takes no jobs: one whose scheduler died gives no answers either."""
        try:
            self.executor.submit(int).cancel()
        except Exception as error:  # whatever its library says
            why = describe_fault(error)
            self.lost += [(job, why) for job, _ in self._begun.values()]
            self._begun.clear()

    def _hear(self, future: Future[str]) -> None:
        job, attempt = self._begun.pop(future)
        try:
            rows = rows_for(job, future.result())
        except (Exception, CancelledError) as error:  # as dask tells of a worker that it gave up
            if attempt < ATTEMPTS:
                self._begin(job, attempt + 1)
            else:
                self.lost.append((job, describe_fault(error)))
            return
        if not _complete(job, self.records):
            self.file.append(*rows)
            self.records += rows


def rows_for(job: CaseJob, text: str) -> list[Record]:
    """Return the rows that a worker sent for a case.

    Raises:
        ValueError: They are not those of a results file, or not of this case, or not all of them.
    """
    rows = [row for _, row in parse(Path("what a worker sent"), text)]
    case = job.plan.coordinates(job.plan.cases[0])
    if any(row.case != case for row in rows) or not _complete(job, rows):
        raise ValueError(f"a worker sent other rows than those of {case.described('=')}")
    return rows


def _complete(job: CaseJob, records: Sequence[Record]) -> bool:
    """Tell whether each kernel has as many passes of the case as were asked for."""
    [case] = job.plan.cases
    where = job.plan.coordinates(case)
    there = {(row.kernel, *row.pass_id) for row in records if row.case == where}
    passes = [sum(kernel.key == key for key, *_ in there) for kernel in job.plan.kernels_of(case)]
    return min(passes, default=0) >= job.schedule.passes


def _lost(lost: Sequence[tuple[CaseJob, str]]) -> str:
    job, why = lost[0]
    first = job.plan.coordinates(job.plan.cases[0]).described("=")
    return f"{counted(len(lost), 'case')} not measured by any of {ATTEMPTS} workers: {first} ({why})"
