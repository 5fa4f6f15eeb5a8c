"""`gradkernels run`: the main job."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from gradkernels.bench.cli import data_options, options, parse
from gradkernels.bench.cli.commands.fastest import print_ranking
from gradkernels.bench.cli.files import (
    already_there,
    require_free,
    require_picture,
    require_regular,
    require_writable,
    write_whole,
)
from gradkernels.bench.cli.options import Format
from gradkernels.bench.cli.run_plan import CaseOptions, PlanOptions, planned
from gradkernels.bench.cli.run_progress import progress_shown
from gradkernels.bench.cli.table_options import DataOptions
from gradkernels.bench.isolation.limits import ProcessLimits, most_bytes, size_in_bytes
from gradkernels.bench.isolation.signals import Stopped, stop_on_signals
from gradkernels.bench.race.elimination import ELIMINATION_LOOKS, measure_by_elimination
from gradkernels.bench.report.terminal.consoles import console_for, say
from gradkernels.bench.report.terminal.styles import WRONG
from gradkernels.bench.results.results_file import Mode
from gradkernels.bench.results.table import tabulate
from gradkernels.bench.run.plan import Plan
from gradkernels.bench.run.ranking import rankings, weighed
from gradkernels.bench.run.resume import require_same
from gradkernels.bench.run.session import Schedule, Session, open_session
from gradkernels.names import counted
from gradkernels.record import HEADER, Record, Status


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
    shard: options.ShardOfCases = None,
    passes: options.PassCount = None,
    race: options.OnlyWinners = False,
    budget: options.MeasuringTime = "65s",
    out: options.RunOut = None,
    plot: options.RunPlot = None,
    timeout: options.Timeout = "60s",
    max_bytes: options.MaxBytes = None,
    calls: options.RunCalls = None,
    resume: options.RunResume = False,
    force: options.RunForce = False,
    format_: options.PrintedKernels = Format.table,
    wide: options.Wide = False,
) -> int:
    """Prove every kernel, time it across sizes, write the CSV, print the winners and draw the plot."""
    pace = Pace(_schedule(passes, race, resume, budget), race, calls, _limit(timeout, max_bytes, device), format_, wide)
    table = DataOptions(data, target, drop_na, resample, features_from, ignore, sep)
    cases = CaseOptions(sizes, features, dtype, layout, device, threads, seed)
    asked = PlanOptions(problem, no_intercept, quantity, kernel or [], kernels_from, cases, table, shard)
    return _planned_and_measured(asked, pace, out, plot, _mode(resume, force))


@dataclass(frozen=True)
class Pace:
    """How long to measure, what for, and how the winners are printed.

    Attributes:
        schedule: Passes, and seconds for all of them.
        race: Whether to find the winners only.
        calls: How often a kernel will be called; None for many.
        limits: Of a measuring process.
        format_: How the winners are printed; what is no table has standard output to itself.
        wide: Whether tables have all columns, however wide they get.
    """

    schedule: Schedule
    race: bool
    calls: int | None
    limits: ProcessLimits
    format_: Format = Format.table
    wide: bool = False

    def shared_by(self, plans: int) -> Schedule:
        """Return the schedule of each of so many plans."""
        if plans == 1:
            return self.schedule
        text = f"{self.schedule.text} for {plans} combinations"
        return replace(self.schedule, budget=self.schedule.budget / plans, text=text)


def _schedule(passes: int | None, race: bool, resume: bool, budget: str) -> Schedule:
    seconds = parse.duration(budget)
    if race and resume:
        raise ValueError("--race and --resume were both given; a race starts afresh")
    if race and passes is not None:
        raise ValueError(f"--race and --passes {passes} were both given; a race does as many passes as it needs")
    if passes is not None and passes < 1:
        raise ValueError(f"--passes {passes}: at least 1 is needed")
    usual = ELIMINATION_LOOKS[-1][0] if race else options.USUAL_PASSES
    return Schedule(passes or usual, seconds, budget)


def _limit(timeout: str, max_bytes: str | None, device: str) -> ProcessLimits:
    usual = most_bytes() if device == "cpu" else None  # CUDA maps the device's memory too
    memory = usual if max_bytes is None else size_in_bytes(max_bytes)
    return ProcessLimits(parse.duration(timeout, "--timeout"), memory)


def _planned_and_measured(asked: PlanOptions, pace: Pace, out: Path | None, plot: Path | None, mode: Mode) -> int:
    with planned(asked, pace.limits) as (plans, notes):
        path = _out(out, mode, asked.shard)
        picture = _picture(path, plot, mode != "new")
        path = require_writable(path, keep=False)
        for note in notes:
            print(note, file=sys.stdout if pace.format_ is Format.table else sys.stderr)
        return _measure(plans, pace, path, picture, mode)


def _out(out: Path | None, mode: Mode, shard: str | None) -> Path:
    if out is None and mode == "resume":
        raise ValueError("--resume needs the file to go on with: --out FILE")
    part = f"-{shard.strip().replace('/', '-of-')}" if shard else ""  # several may begin in one second
    path = Path("results") / f"run-{datetime.now():%Y%m%d-%H%M%S}{part}.csv" if out is None else out
    require_regular(path, str(path))
    if mode == "new" and path.exists() and path.stat().st_size > len(HEADER):
        raise already_there(path)
    return path


def _picture(out: Path, plot: Path | None, replaced: bool) -> Path:
    """Return where to draw; what cannot be drawn to is refused before the measuring, not after."""
    from gradkernels.bench.report.pictures.draw import formats

    if plot is not None:
        require_picture(plot, formats(), out)
        require_free("--plot", plot, replaced)
        return plot
    picture = out.with_suffix(".png")
    if picture == out:
        raise ValueError(f"--out {out}: the results are CSV, and their picture would be {out} too; end it in .csv")
    require_free("the picture", picture, replaced)
    return picture


def _mode(resume: bool, force: bool) -> Mode:
    if resume and force:
        raise ValueError("--resume and --force were both given; one keeps the file, the other replaces it")
    return "resume" if resume else "replace" if force else "new"


def _measure(plans: list[Plan], pace: Pace, path: Path, picture: Path, mode: Mode) -> int:
    """Measure plan after plan into one file, each in its share of the time."""
    records: list[Record] = []
    session = None
    schedule = pace.shared_by(len(plans))
    with stop_on_signals():
        try:
            for plan in plans:
                _say_which(plan, plans)
                with progress_shown() as tell, open_session(plan, path, schedule, tell, pace.limits, mode) as session:
                    require_same(plans, path, session.records)
                    records += _measured(session, pace)
                mode = "resume"
        except Stopped as stop:
            return _stopped(stop, path, session)
    return _conclude(records, path, picture, pace)


def _say_which(plan: Plan, plans: list[Plan]) -> None:
    if len(plans) > 1:
        told = (counted(plan.features, "feature"), plan.dtype, counted(plan.threads, "thread"))
        print(*told, sep=", ", file=sys.stderr, flush=True)


def _measured(session: Session, pace: Pace) -> list[Record]:
    """Return the records of the session's own cases, as they are to be ranked."""
    found = measure_by_elimination(session, pace.calls) if pace.race else session.measure_missing()
    cases = {session.plan.coordinates(case) for case in session.plan.cases}
    return [row for row in found if row.case in cases]


def _stopped(stop: Stopped, path: Path, session: Session | None) -> int:
    rows = len(session.records) if session else 0
    there = f"{counted(rows, 'row')} {'is' if rows == 1 else 'are'} in {path}"
    kept = f"{there}, and --resume goes on" if rows else "no row was written"
    print(f"gradkernels: stopped; {kept}", file=sys.stderr)
    return stop.code


def _conclude(records: list[Record], path: Path, picture: Path, pace: Pace) -> int:
    undrawn = _undrawn(records, picture, pace.calls)  # before anything is printed: a pipe may be closed by then
    print_ranking(rankings(weighed(records, pace.calls)), pace.format_, pace.wide)
    console = console_for(sys.stdout if pace.format_ is Format.table else sys.stderr)
    if pace.calls:
        own = f"those of one of {counted(pace.calls, 'call')}"
        say(console, f"times are {own}, with its share of building and the first call")
    found = (row for row in records if row.measurement.status == Status.wrong)
    wrong = sorted({f"{row.kernel} at n = {row.case.n}: {row.measurement.reason}" for row in found})
    for sentence in wrong:
        say(console, f"WRONG, not timed: {sentence}", WRONG)
    say(console, f"\n{counted(len(records), 'row')} in {path}" + ("" if undrawn else f", picture in {picture}"))
    say(console, f"make it this machine's choice: gradkernels fastest {path} --save")
    if undrawn:
        raise undrawn
    return 1 if wrong else 0


def _undrawn(records: list[Record], picture: Path, calls: int | None) -> OSError | None:
    """Draw the picture; return what kept it from being written, for after the tables."""
    from gradkernels.bench.report.pictures.draw import draw
    from gradkernels.bench.report.pictures.run_content import content_of

    try:
        write_whole(picture, draw(content_of(tabulate(records), calls=calls), picture.suffix.lower()))
    except OSError as error:
        return error
    return None
