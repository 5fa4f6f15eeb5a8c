"""`gradkernels run`: the main job."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from gradkernels.bench.cli import data_options, options, plot_options
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
from gradkernels.bench.cli.run_pace import Pace, ShownWinners, limits_of, schedule_of
from gradkernels.bench.cli.run_plan import CaseOptions, PlanOptions, planned
from gradkernels.bench.cli.run_progress import cases_shown, run_progress_shown
from gradkernels.bench.cli.table_options import DataOptions
from gradkernels.bench.isolation.signals import Stopped, stop_on_signals
from gradkernels.bench.race.elimination import measure_by_elimination
from gradkernels.bench.report.pictures.content import PictureKind
from gradkernels.bench.report.terminal.consoles import console_for, say
from gradkernels.bench.report.terminal.styles import WRONG_STYLE
from gradkernels.bench.results.results_file import Mode
from gradkernels.bench.results.table import tabulate
from gradkernels.bench.run.plan import Plan
from gradkernels.bench.run.ranking import rankings, weighed
from gradkernels.bench.run.resume import require_same_plan
from gradkernels.bench.run.session import Session, open_session
from gradkernels.bench.sweep.executors import executor_at, require_address
from gradkernels.bench.sweep.shards import expecting
from gradkernels.bench.sweep.spread import spread_out
from gradkernels.names import counted
from gradkernels.record import HEADER, Record, Status

_Options = TypeVar("_Options", CaseOptions, DataOptions, ShownWinners)


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
    executor: options.ExecutorAddress = None,
    passes: options.PassCount = None,
    race: options.OnlyWinners = False,
    budget: options.MeasuringTime = "65s",
    out: options.RunOut = None,
    plot: options.RunPlot = None,
    kind: plot_options.RunPictureKind = None,
    baseline: plot_options.Baseline = None,
    timeout: options.Timeout = "60s",
    max_bytes: options.MaxBytes = None,
    calls: options.RunCalls = None,
    resume: options.RunResume = False,
    force: options.RunForce = False,
    format_: options.PrintedKernels = Format.table,
    wide: options.Wide = False,
) -> int:
    """Prove every kernel, time it across sizes, write the CSV, print the winners and draw the plot."""
    return _run(locals())


def _run(typed: Mapping[str, Any]) -> int:
    """Begin a run as it was typed, all options by name."""
    asked = PlanOptions(
        typed["problem"],
        typed["no_intercept"],
        typed["quantity"],
        typed["kernel"] or [],
        typed["kernels_from"],
        _taken(CaseOptions, typed),
        _taken(DataOptions, typed),
        typed["shard"],
    )
    race, resume, executor = (typed[name] for name in ("race", "resume", "executor"))
    if executor:
        require_address(executor)
    if race and executor:
        raise ValueError("--race and --executor were both given; a race drops kernels on one machine, so leave one out")
    shown = _taken(ShownWinners, typed)
    shown.require_meaning()
    schedule = schedule_of(typed["passes"], race, resume, typed["budget"])
    pace = Pace(schedule, race, limits_of(typed["timeout"], typed["max_bytes"], typed["device"]), shown)
    return _planned_and_measured(asked, pace, typed["out"], typed["plot"], _mode(resume, typed["force"]))


def _taken(kind: type[_Options], typed: Mapping[str, Any]) -> _Options:
    """Return the options that belong together, from all that were typed."""
    return kind(**{name: typed[name] for name in kind.__annotations__})


def _planned_and_measured(asked: PlanOptions, pace: Pace, out: Path | None, plot: Path | None, mode: Mode) -> int:
    with planned(asked, pace.limits) as (plans, notes):
        if not pace.race:  # which leaves out rows of slow kernels
            plans = expecting(plans, pace.schedule.passes)
        pace.shown.require_baseline(key for plan in plans for key in plan.kernels)
        path = _out(out, mode, asked.shard)
        picture = _picture(path, plot, mode != "new")
        path = require_writable(path, keep=False)
        for note in notes:
            print(note, file=sys.stdout if pace.shown.format_ is Format.table else sys.stderr)
        if asked.cases.executor:
            return _spread(plans, pace, path, picture, mode, asked.cases.executor)
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
                with (
                    run_progress_shown() as tell,
                    open_session(plan, path, schedule, tell, pace.limits, mode) as session,
                ):
                    require_same_plan(plans, path, session.records)
                    records += _measured(session, pace)
                mode = "resume"
        except Stopped as stop:
            return _stopped(stop, path, session)
    return _conclude(records, path, picture, pace)


def _spread(plans: list[Plan], pace: Pace, path: Path, picture: Path, mode: Mode, executor: str) -> int:
    """Measure case by case on the machines of an executor."""
    with stop_on_signals():
        try:
            with executor_at(executor) as workers, cases_shown() as tell:
                records = spread_out(plans, (path, mode), pace.schedule, pace.limits, workers, tell)
        except Stopped as stop:
            print(f"gradkernels: stopped; --resume goes on with what is in {path}", file=sys.stderr)
            return stop.code
    return _conclude(records, path, picture, pace)


def _say_which(plan: Plan, plans: list[Plan]) -> None:
    if len(plans) > 1:
        told = (counted(plan.features, "feature"), plan.dtype, counted(plan.threads, "thread"))
        print(*told, sep=", ", file=sys.stderr, flush=True)


def _measured(session: Session, pace: Pace) -> list[Record]:
    """Return the records of the session's own cases, as they are to be ranked."""
    found = measure_by_elimination(session, pace.shown.calls) if pace.race else session.measure_missing()
    cases = {session.plan.coordinates(case) for case in session.plan.cases}
    return [row for row in found if row.case in cases]


def _stopped(stop: Stopped, path: Path, session: Session | None) -> int:
    rows = len(session.records) if session else 0
    there = f"{counted(rows, 'row')} {'is' if rows == 1 else 'are'} in {path}"
    kept = f"{there}, and --resume goes on" if rows else "no row was written"
    print(f"gradkernels: stopped; {kept}", file=sys.stderr)
    return stop.code


def _conclude(records: list[Record], path: Path, picture: Path, pace: Pace) -> int:
    undrawn = _undrawn(records, path, picture, pace.shown)  # before anything is printed: a pipe may be closed by then
    print_ranking(rankings(weighed(records, pace.shown.calls)), pace.shown.format_, pace.shown.wide)
    console = console_for(sys.stdout if pace.shown.format_ is Format.table else sys.stderr)
    if pace.shown.calls:
        own = f"those of one of {counted(pace.shown.calls, 'call')}"
        say(console, f"times are {own}, with its share of building and the first call")
    found = (row for row in records if row.measurement.status == Status.wrong)
    wrong = sorted({f"{row.kernel} at n = {row.case.n}: {row.measurement.reason}" for row in found})
    for sentence in wrong:
        say(console, f"WRONG, not timed: {sentence}", WRONG_STYLE)
    say(console, f"\n{counted(len(records), 'row')} in {path}" + ("" if undrawn else f", picture in {picture}"))
    say(console, f"make it this machine's choice: gradkernels fastest {path} --save")
    if undrawn:
        raise undrawn
    return 1 if wrong else 0


def _undrawn(records: list[Record], path: Path, picture: Path, shown: ShownWinners) -> OSError | ValueError | None:
    """Draw the picture; return what kept it from being drawn or written, for after the tables."""
    from gradkernels.bench.report.pictures.draw import draw
    from gradkernels.bench.report.pictures.run_content import content_of

    try:
        content = content_of(tabulate(records), shown.kind or PictureKind.time, shown.baseline, shown.calls)
        write_whole(picture, draw(content, picture.suffix.lower()))
    except OSError as error:
        return error
    except ValueError as error:
        return ValueError(f"no picture of {shown.kind}: {error}; the results are in {path}")
    return None
