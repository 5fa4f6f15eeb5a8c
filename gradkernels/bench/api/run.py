"""`gk.run` and `gk.compare`: what the commands of that name do, for values instead of words."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from pathlib import Path
from typing import Unpack

from gradkernels.bench.api.plans import Kernels, Problems, RunOptions, plans_for, require_options
from gradkernels.bench.api.results import PathName, Results
from gradkernels.bench.api.verdicts import Verdicts
from gradkernels.bench.cli.files import require_writable
from gradkernels.bench.cli.run_progress import cases_shown, run_progress_shown
from gradkernels.bench.isolation.limits import ProcessLimits, most_bytes
from gradkernels.bench.run.plan import Plan
from gradkernels.bench.run.session import Schedule, open_session
from gradkernels.bench.sweep.spread import CasesLost, spread_out
from gradkernels.names import counted
from gradkernels.record import Record, read


def run(
    problems: Problems = "linear",
    quantities: str | Iterable[str] | None = None,
    kernels: Kernels = None,
    sizes: str | Iterable[int] | None = None,
    *,
    budget: float = 65.0,
    out: PathName | None = None,
    **options: Unpack[RunOptions],
) -> Results:
    """Prove every kernel and time it across sizes, in processes of their own: `gradkernels run` from Python.

    Args:
        problems: One or several: `linear`, `huber(delta=2)`, `package.module:factory`, or a Problem.
        quantities: Names, or `all`; None for gradient and per_sample, and those of Kernels that are given.
        kernels: Globs such as `numpy.*`, and Kernels declared anywhere; None for all that fit.
        sizes: Numbers of samples, or `10:1e6` for one a decade.
        budget: Seconds for everything, shared among the problems.
        out: A new results file; without it the results are in memory alone.
        options: See `gradkernels.bench.api.plans.RunOptions`: passes, features, dtype, threads and others.

    Returns:
        What was measured; until Ctrl-C, with a warning, where that stopped it.

    Raises:
        ValueError: Something does not exist, does not fit or cannot be sent to another process.
    """
    chosen = require_options(options, budget)
    with tempfile.TemporaryDirectory(prefix="gradkernels-") as folder:
        plans = plans_for(problems, (quantities, kernels, sizes), chosen, Path(folder))
        seconds = budget / len(plans) if (executor := chosen["executor"]) is None else budget
        schedule = Schedule(chosen["passes"], seconds, f"{seconds:g}s")
        limited = chosen["max_bytes"] or (most_bytes() if chosen["device"] == "cpu" else None)
        path = Path(folder, "run.csv") if out is None else new_file(Path(out))
        limits = ProcessLimits(chosen["timeout"], limited)
        if executor is None:
            return Results(tuple(_measured(plans, path, schedule, limits)))
        with nothing_lost_with_the_file(out) as records:
            _spread(plans, path, schedule, limits, executor, records)
        return Results(tuple(records))


def compare(
    before: Results | PathName, after: Results | PathName, *, delta: float | None = None, force: bool = False
) -> Verdicts:
    """Say for each kernel and case whether it is slower, faster or the same: `gradkernels compare` from Python.

    Args:
        before: Results, or the path of a results file.
        after: Likewise.
        delta: Fraction that a change must exceed to count; 0.01 if None.
        force: Compare across machines, dtypes, layouts, devices or threads if nothing else matches.

    Returns:
        The verdicts: `.frame`, and a table when printed.

    Raises:
        ValueError: They have nothing in common that may be compared, or a file is not a results file.
    """
    one, other = (side if isinstance(side, Results) else Results.read(side) for side in (before, after))
    return one.compare(other, delta=delta, force=force)


def _measured(plans: Sequence[Plan], path: Path, schedule: Schedule, limits: ProcessLimits) -> list[Record]:
    """Measure plan after plan into one file; return what is in it at the end, or when it is stopped."""
    records: list[Record] = []
    with stopped_softly(records), run_progress_shown() as tell:
        for plan in plans:
            with open_session(plan, path, schedule, tell, limits) as session:
                try:
                    session.measure_missing()
                finally:
                    records[:] = session.records
    return records


def _spread(
    plans: Sequence[Plan],
    path: Path,
    schedule: Schedule,
    limits: ProcessLimits,
    executor: Executor,
    records: list[Record],
) -> None:
    """Measure case by case at an executor; have in `records` what is in the file at the end, or when it is stopped."""
    with stopped_softly(records), cases_shown() as tell:
        try:
            spread_out(plans, (path, "new"), schedule, limits, executor, tell)
        finally:
            records += read(path) if path.exists() else []


@contextmanager
def nothing_lost_with_the_file(out: PathName | None) -> Iterator[list[Record]]:
    """Yield a list for rows, which a warning leaves to the caller where cases are lost and the caller named no file.

    Args:
        out: The caller's file; the rows are in it, and an error says so.
    """
    records: list[Record] = []
    try:
        yield records
    except CasesLost as error:
        if out is not None:
            raise
        if not records:
            raise OSError(error.why) from None
        warnings.warn(f"{error.why}; the result has the rows of the others", UserWarning, stacklevel=4)


@contextmanager
def stopped_softly(records: Sequence[Record]) -> Iterator[None]:
    """Let Ctrl-C end the context with a warning where there are records already."""
    try:
        yield
    except KeyboardInterrupt:
        if not records:
            raise
        warnings.warn(f"stopped: {counted(len(records), 'row')} measured until then", UserWarning, stacklevel=4)


def new_file(path: Path) -> Path:
    """Return the path of a file that is not there yet and can be written.

    Raises:
        ValueError: There is such a file.
        OSError: It cannot be written.
    """
    if path.exists():
        raise ValueError(f"{path} is there already; name another file, or read it by gk.Results.read")
    return require_writable(path, keep=True)
