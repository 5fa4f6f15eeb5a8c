"""`gradkernels run`: the main job."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from gradkernels.bench.cli import data_options, options, parse
from gradkernels.bench.cli.files import require_free, require_picture, require_writable, write_whole
from gradkernels.bench.cli.run_plan import CaseOptions, PlanOptions, planned
from gradkernels.bench.cli.run_progress import progress_shown
from gradkernels.bench.cli.table_options import DataOptions
from gradkernels.bench.isolation.limits import ProcessLimits, most_bytes, size_in_bytes
from gradkernels.bench.isolation.signals import Stopped, stop_on_signals
from gradkernels.bench.race.elimination import ELIMINATION_LOOKS, measure_by_elimination, unbiased_records
from gradkernels.bench.report.ranking_text import show_ranking
from gradkernels.bench.results.results_file import Mode
from gradkernels.bench.results.table import tabulate
from gradkernels.bench.run.plan import Plan
from gradkernels.bench.run.ranking import rankings, weighed
from gradkernels.bench.run.resume import require_same
from gradkernels.bench.run.session import Schedule, Session, open_session
from gradkernels.names import counted
from gradkernels.record import Record, Status


def run(
    problem: options.ProblemName = "linear",
    no_intercept: options.NoIntercept = False,
    data: data_options.DataName = None,
    target: data_options.TargetColumn = None,
    features_from: data_options.FeatureColumns = None,
    ignore: data_options.IgnoredColumns = None,
    sep: data_options.ColumnSign = None,
    drop_na: data_options.DropNa = False,
    resample: data_options.Resample = False,
    quantity: options.QuantityNames = "gradient,per_sample",
    kernel: options.KernelGlobs = None,
    kernels_from: options.KernelsFrom = None,
    sizes: options.RunSizes = None,
    features: options.RunFeatures = None,
    dtype: options.RunDtype = None,
    layout: options.MemoryLayout = "C",
    device: options.DeviceName = "cpu",
    threads: options.RunThreads = "1",
    seed: options.DataSeed = 0,
    passes: options.PassCount = 8,
    race: options.OnlyWinners = False,
    budget: options.MeasuringTime = "65s",
    out: options.RunOut = None,
    plot: options.RunPlot = None,
    timeout: options.Timeout = "60s",
    max_bytes: options.MaxBytes = None,
    calls: options.RunCalls = None,
    resume: options.RunResume = False,
    force: options.RunForce = False,
) -> int:
    """Prove every kernel, time it across sizes, write the CSV, print the winners and draw the plot.

    Exit codes: 0 done; 1 a proof failed; 2 bad usage or bad input, or no room for the results; 130 stopped by Ctrl-C.
    """
    pace = Pace(_schedule(passes, race, resume, budget), race, calls, _limits(timeout, max_bytes, device))
    table = DataOptions(data, target, drop_na, resample, features_from, ignore, sep)
    cases = CaseOptions(sizes, features, dtype, layout, device, threads, seed)
    asked = PlanOptions(problem, no_intercept, quantity, kernel or [], kernels_from, cases, table)
    return _planned_and_measured(asked, pace, out, plot, _mode(resume, force))


@dataclass(frozen=True)
class Pace:
    """How long to measure, and what for.

    Attributes:
        schedule: Passes, and seconds for all of them.
        race: Whether to find the winners only.
        calls: How often a kernel will be called; None for many.
        limits: Of a measuring process.
    """

    schedule: Schedule
    race: bool
    calls: int | None
    limits: ProcessLimits

    def shared_by(self, plans: int) -> Schedule:
        """Return the schedule of each of so many plans."""
        if plans == 1:
            return self.schedule
        text = f"{self.schedule.text} for {plans} combinations"
        return replace(self.schedule, budget=self.schedule.budget / plans, text=text)


def _schedule(passes: int, race: bool, resume: bool, budget: str) -> Schedule:
    seconds = parse.duration(budget)
    if race and resume:
        raise ValueError("--race and --resume were both given; a race starts afresh")
    if passes < 1:
        raise ValueError(f"--passes {passes}: at least 1 is needed")
    return Schedule(ELIMINATION_LOOKS[-1][0] if race else passes, seconds, budget)


def _limits(timeout: str, max_bytes: str | None, device: str) -> ProcessLimits:
    usual = most_bytes() if device == "cpu" else None  # CUDA maps the device's memory too
    memory = usual if max_bytes is None else size_in_bytes(max_bytes)
    return ProcessLimits(parse.duration(timeout, "--timeout"), memory)


def _planned_and_measured(asked: PlanOptions, pace: Pace, out: Path | None, plot: Path | None, mode: Mode) -> int:
    with planned(asked, pace.limits) as plans:
        path = _out(out, mode)
        return _measure(plans, pace, path, _picture(path, plot, mode != "new"), mode)


def _out(out: Path | None, mode: Mode) -> Path:
    if out is None:
        if mode == "resume":
            raise ValueError("--resume needs the file to go on with: --out FILE")
        return require_writable(Path("results") / f"run-{datetime.now():%Y%m%d-%H%M%S}.csv", keep=False)
    return require_writable(out, keep=False)


def _picture(out: Path, plot: Path | None, replaced: bool) -> Path:
    """Return where to draw; what cannot be drawn to is refused before the measuring, not after."""
    if plot is None:
        picture = out.with_suffix(".png")
        require_picture(picture, (".png",), out)
        return picture
    from gradkernels.bench.report.pictures.draw import formats

    require_picture(plot, formats(), out)
    require_free("--plot", plot, replaced)
    return plot


def _mode(resume: bool, force: bool) -> Mode:
    if resume and force:
        raise ValueError("--resume and --force were both given; one keeps the file, the other replaces it")
    return "resume" if resume else "replace" if force else "new"


def _measure(plans: list[Plan], pace: Pace, path: Path, picture: Path, mode: Mode) -> int:
    """Measure plan after plan into one file, each in its share of the time."""
    records: list[Record] = []
    session = None
    with stop_on_signals(), progress_shown() as tell:
        try:
            for plan in plans:
                with open_session(plan, path, pace.shared_by(len(plans)), tell, pace.limits, mode) as session:
                    require_same(plans, path, session.records)
                    records += _measured(session, pace)
                mode = "resume"
        except Stopped as stop:
            return _stopped(stop, path, session)
    return _conclude(records, path, picture, pace.calls)


def _measured(session: Session, pace: Pace) -> list[Record]:
    """Return the records of the session's own cases, as they are to be ranked."""
    found = measure_by_elimination(session, pace.calls) if pace.race else session.measure_missing()
    cases = {session.plan.coordinates(case) for case in session.plan.cases}
    own = [row for row in found if row.case in cases]
    return unbiased_records(own) if pace.race else own


def _stopped(stop: Stopped, path: Path, session: Session | None) -> int:
    rows = len(session.records) if session else 0
    there = f"{counted(rows, 'row')} {'is' if rows == 1 else 'are'} in {path}"
    kept = f"{there}, and --resume goes on" if rows else "no row was written"
    print(f"gradkernels: stopped; {kept}", file=sys.stderr)
    return stop.code


def _conclude(records: list[Record], path: Path, picture: Path, calls: int | None) -> int:
    from gradkernels.bench.report.pictures.draw import draw
    from gradkernels.bench.report.pictures.run_content import content_of

    show_ranking(rankings(weighed(records, calls)))
    if calls:
        print(f"times are those of one of {counted(calls, 'call')}, with its share of building and the first call")
    write_whole(picture, draw(content_of(tabulate(records), calls=calls), picture.suffix.lower()))
    found = (row for row in records if row.measurement.status == Status.wrong)
    wrong = sorted({f"{row.kernel} at n = {row.case.n}: {row.measurement.reason}" for row in found})
    for sentence in wrong:
        print(f"WRONG, not timed: {sentence}")
    print(f"\n{counted(len(records), 'row')} in {path}, picture in {picture}")
    print(f"make it this machine's choice: gradkernels fastest {path} --save")
    return 1 if wrong else 0
