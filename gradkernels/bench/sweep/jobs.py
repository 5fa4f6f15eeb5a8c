"""One case of a run as a job for any machine: what travels there, what is done with it, and what comes back.

A job is a plan of one case with the files that it names, since another machine has none of them. What comes back is
the text of a results file, whose rows are read by the rules of all results.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gradkernels.bench.isolation.limits import ProcessLimits, most_bytes
from gradkernels.bench.run.plan import Plan
from gradkernels.bench.run.resume import BY_CASE
from gradkernels.bench.run.session import Schedule, open_session

_ENDINGS = {"pickled": ".problem", "own": ".kernels", "data": ".npz"}
"""Of the files that a plan names, by field."""


@dataclass(frozen=True)
class CaseJob:
    """One case to measure.

    Attributes:
        plan: Of this case alone.
        files: Contents of the files that the plan names, by field.
        schedule: Its passes and its share of the time.
        limits: Of each measuring process; a machine with less memory has a lower one.
    """

    plan: Plan
    files: dict[str, bytes]
    schedule: Schedule
    limits: ProcessLimits


def jobs_of(plans: Sequence[Plan], schedule: Schedule, limits: ProcessLimits) -> list[CaseJob]:
    """Return a job for each case of the plans, the largest first, each with the same share of the time.

    Args:
        plans: Of the run.
        schedule: Of all cases together.
        limits: Of each measuring process.
    """
    each = [
        replace(plan, chosen=(position,), part="-".join(filter(None, (BY_CASE, plan.part))))
        for plan in plans
        for position in (plan.chosen if plan.chosen is not None else range(len(plan.cases)))
    ]
    share = replace(schedule, budget=schedule.budget / max(1, len(each)), text=f"{schedule.text} for {len(each)} cases")
    each.sort(key=lambda plan: -plan.cases[0].n)
    return [CaseJob(plan, _files_of(plan), share, limits) for plan in each]


def measure_case(job: CaseJob) -> str:
    """Measure a case on the machine where this is called, alone there; return the text of its results file.

    Raises:
        ValueError: The plan cannot be made here.
        OSError: There is no room, or no measuring process can do its work.
    """
    with tempfile.TemporaryDirectory(prefix="gradkernels-") as name:
        folder = Path(name)
        plan, path = _here(job, folder), folder / "case.csv"
        with open_session(plan, path, job.schedule, lambda _: None, _limits_here(job.limits), alone=True) as session:
            session.measure_missing()
        return path.read_text(encoding="utf-8")


def _files_of(plan: Plan) -> dict[str, bytes]:
    found = {name: Path(given).read_bytes() for name in ("pickled", "own") if (given := getattr(plan, name))}
    if isinstance(plan.data, int):
        found["data"] = os.pread(plan.data, os.fstat(plan.data).st_size, 0)
    elif plan.data is not None:
        found["data"] = Path(plan.data).read_bytes()
    return found


def _here(job: CaseJob, folder: Path) -> Plan:
    """Write a job's files into a folder of this machine; return its plan with their paths."""
    paths: dict[str, Any] = {}
    for name, content in job.files.items():
        given = getattr(job.plan, name)
        ending = ".py" if isinstance(given, str) and given.endswith(".py") else _ENDINGS[name]
        path = folder / f"{name}{ending}"
        path.write_bytes(content)
        paths[name] = str(path)
    return replace(job.plan, **paths)


def _limits_here(limits: ProcessLimits) -> ProcessLimits:
    known = [one for one in (limits.max_bytes, most_bytes()) if one is not None]
    return limits if limits.max_bytes is None else replace(limits, max_bytes=min(known))
