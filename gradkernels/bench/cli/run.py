"""`gradkernels run`: the main job."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import IO, Annotated

import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from gradkernels.bench.cli import options, parse
from gradkernels.bench.cli.run_module_defaults import MODULE_SIZES, own_dtype, refuse_for_module
from gradkernels.bench.isolation.limits import ProcessLimits, most_bytes, size_in_bytes
from gradkernels.bench.isolation.signals import Stopped, stop_on_signals
from gradkernels.bench.report import ranking_table as winner_tables
from gradkernels.bench.results.results_file import Mode
from gradkernels.bench.run.plan import Plan, problem_from
from gradkernels.bench.run.race import ELIMINATION_LOOKS, measure_by_elimination, unbiased_records
from gradkernels.bench.run.race_plan import require_sound
from gradkernels.bench.run.ranking import CaseRanking, rankings, weighed
from gradkernels.bench.run.resume import require_same
from gradkernels.bench.run.session import Schedule, Session, SessionProgress, open_session
from gradkernels.problems import BlackBox
from gradkernels.problems.data.datasets import Dataset, load
from gradkernels.record import Record, Status

SIZES = "10:1e6"
DECADES = tuple(10**exponent for exponent in range(1, 7))


def run(
    problem: options.Problem = "linear",
    no_intercept: options.NoIntercept = False,
    data: options.Data = None,
    target: options.Target = None,
    drop_na: options.DropNa = False,
    resample: Annotated[
        bool, typer.Option("--resample", help="Draw with replacement where a size is larger than the data.")
    ] = False,
    quantity: options.Quantity = "gradient,per_sample",
    kernel: options.Kernels = None,
    sizes: Annotated[
        str | None,
        typer.Option(
            help="10,100,1000, or 10:1e6 (a size per decade), or 10:1e6:11. [default: 10:1e6; modules 10:1000]"
        ),
    ] = None,
    features: Annotated[int | None, typer.Option(help="Columns of x in synthetic data. [default: 1]")] = None,
    dtype: Annotated[
        str | None, typer.Option(help="float64 or float32. [default: float64; of a module its own]")
    ] = None,
    layout: Annotated[str, typer.Option(help="Memory order of x: C or F.")] = "C",
    device: Annotated[str, typer.Option(help="cpu, or cuda for torch kernels.")] = "cpu",
    threads: Annotated[int, typer.Option(help="Threads that a kernel may use.")] = 1,
    seed: Annotated[int, typer.Option(help="Of the data.")] = 0,
    passes: Annotated[int, typer.Option(help="Fresh starts of the measuring process; verdicts need 6 or more.")] = 8,
    race: Annotated[
        bool,
        typer.Option("--race", help="Only find the winners: drop kernels that are surely slower at 4, 8, 16 passes."),
    ] = False,
    budget: Annotated[
        str,
        typer.Option(
            help="Time for the measuring, for instance 90s, 5min or 1h; proofs and the start of processes come on top."
        ),
    ] = "65s",
    out: Annotated[Path | None, typer.Option(help="Results file. [default: results/run-DATE-TIME.csv]")] = None,
    plot: Annotated[Path | None, typer.Option(help="Picture. [default: the results file with .png]")] = None,
    timeout: Annotated[
        str, typer.Option(help="Time that a kernel may keep a case waiting in one go; one that hangs loses its row.")
    ] = "60s",
    max_bytes: Annotated[
        str | None,
        typer.Option(
            help="Memory of a measuring process, libraries included, for instance 4GB. [default: 80% of the machine's]"
        ),
    ] = None,
    calls: Annotated[
        int | None,
        typer.Option(
            min=1, help="How often a kernel will be called, to weigh its first call for the winners. [default: many]"
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with --out; measure only what is missing.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace --out, once there is a first row.")] = False,
) -> int:
    """Prove every kernel, time it across sizes, write the CSV, print the winners and draw the plot.

    Exit codes: 0 done; 1 a proof failed; 2 bad usage or bad input, or no room for the results; 130 stopped by Ctrl-C.
    """
    options.import_from_here()
    seconds = parse.seconds(budget)
    limits = ProcessLimits(parse.seconds(timeout, "--timeout"), _max_bytes(max_bytes, device))
    if race and resume:
        raise ValueError("--race and --resume were both given; a race starts afresh")
    if passes < 1:
        raise ValueError(f"--passes {passes}: at least 1 is needed")
    subject = problem_from(problem, not no_intercept)
    chosen = parse.chosen_kernels(kernel or [], parse.chosen_quantities(quantity), subject)
    if isinstance(subject, BlackBox):
        refuse_for_module({"--data": data, "--features": features, "--no-intercept": no_intercept})
    with _dataset_file(data, target, drop_na) as (dataset, file):
        plan = Plan(
            problem=problem,
            kernels=tuple(kernel.key for kernel in chosen),
            sizes=MODULE_SIZES if isinstance(subject, BlackBox) and sizes is None else _sizes(sizes, dataset, resample),
            fit_intercept=not no_intercept,
            features=_features(features, dataset),
            dtype=own_dtype(subject) if dtype is None else dtype,
            layout=layout,
            device=device,
            threads=threads,
            seed=seed,
            data=file,
            data_name=dataset.name if dataset else "",
            resample=resample,
        )
        if dataset is not None:
            subject.targets(dataset.y, seed)  # all of them, whatever the sizes
        plan.inputs(plan.cases[0])
        require_sound(plan)
        path = _out(out, resume, force)
        schedule, session = Schedule(ELIMINATION_LOOKS[-1][0] if race else passes, seconds, budget), None
        with stop_on_signals(), _progress() as tell:
            try:
                with open_session(plan, path, schedule, tell, limits, _mode(resume, force)) as session:
                    require_same(plan, path, session.records)
                    records = (
                        unbiased_records(measure_by_elimination(session, calls)) if race else session.measure_missing()
                    )
            except Stopped as stop:
                return _stopped(stop, path, session)
    return _conclude(records, path, plot or path.with_suffix(".png"), calls)


@contextmanager
def _dataset_file(data: str | None, target: str | None, drop_na: bool) -> Iterator[tuple[Dataset | None, int | None]]:
    """The data set, and the descriptor of a file of it that the measuring processes read and nothing leaves behind."""
    if data is None:
        for name, given in (("--target", target), ("--drop-na", drop_na)):
            if given:
                raise ValueError(f"{name} was given without --data; name the file that it is about")
        yield None, None
        return
    dataset = load(data, target, drop_na)
    with _nameless(dataset) as file:
        yield dataset, file.fileno()


def _nameless(dataset: Dataset) -> IO[bytes]:
    """A temporary file of the data that has no name, so that nothing can leave it behind."""
    file = tempfile.TemporaryFile()  # noqa: SIM115
    try:
        np.savez(file, x=dataset.x, y=dataset.y, columns=np.array(dataset.columns))
        file.flush()
    except OSError as error:
        with suppress(OSError):  # it would write the rest
            file.close()
        raise OSError(error.errno, error.strerror, f"a copy of {dataset.name} in {tempfile.gettempdir()}") from None
    return file


def _sizes(text: str | None, dataset: Dataset | None, resample: bool) -> tuple[int, ...]:
    if dataset is None:
        return parse.sizes(text or SIZES)
    if text is None:
        return (*(n for n in DECADES if n < dataset.size), dataset.size)
    chosen = parse.sizes(text)
    dataset.draw(max(chosen), 0, resample)
    return chosen


def _features(given: int | None, dataset: Dataset | None) -> int:
    if dataset is None:
        return 1 if given is None else given
    if given is not None:
        raise ValueError(f"--features {given}: {dataset.name} has {dataset.features}; leave --features out")
    return dataset.features


def _out(out: Path | None, resume: bool, force: bool) -> Path:
    if resume and force:
        raise ValueError("--resume and --force were both given; one keeps the file, the other replaces it")
    if out is None:
        if resume:
            raise ValueError("--resume needs the file to go on with: --out FILE")
        return options.writable(Path("results") / f"run-{datetime.now():%Y%m%d-%H%M%S}.csv", keep=False)
    return options.writable(out, keep=False)


def _max_bytes(text: str | None, device: str) -> int | None:
    if text is not None:
        return size_in_bytes(text)
    return most_bytes() if device == "cpu" else None  # CUDA maps the device's memory too


def _mode(resume: bool, force: bool) -> Mode:
    return "resume" if resume else "replace" if force else "new"


def _stopped(stop: Stopped, path: Path, session: Session | None) -> int:
    rows = len(session.records) if session else 0
    kept = f"{rows} rows are in {path}, and --resume goes on" if rows else "no row was written"
    print(f"gradkernels: stopped; {kept}", file=sys.stderr)
    return stop.code


@contextmanager
def _progress() -> Iterator[Callable[[SessionProgress], None]]:
    """A bar with the time left on a terminal, a line per pass elsewhere."""
    if not sys.stderr.isatty():
        yield _plain_progress()
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TextColumn("left"))
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=None)

        def tell(at: SessionProgress) -> None:
            # The memory pass counts as one more.
            total = (at.passes + 1) * at.cases
            bar.update(task, description=at.title, total=total, completed=at.pass_ * at.cases + at.case)

        yield tell


def _plain_progress() -> Callable[[SessionProgress], None]:
    told: set[int] = set()

    def tell(at: SessionProgress) -> None:
        if at.pass_ not in told:
            told.add(at.pass_)
            print(at.title, file=sys.stderr, flush=True)

    return tell


def _conclude(records: list[Record], path: Path, picture: Path, calls: int | None) -> int:
    from gradkernels.bench.report.ranking_plot import draw

    show(rankings(weighed(records, calls)))
    if calls:
        print(f"times are those of one of {calls:,} calls, with its share of building and the first call")
    draw(records, picture)
    found = (row for row in records if row.measurement.status == Status.wrong)
    wrong = sorted({f"{row.kernel} at n = {row.case.n}: {row.measurement.reason}" for row in found})
    for sentence in wrong:
        print(f"WRONG, not timed: {sentence}")
    print(f"\n{len(records)} rows in {path}, picture in {picture}")
    print(f"make it this machine's choice: gradkernels fastest {path} --save")
    return 1 if wrong else 0


def show(ranking: list[CaseRanking]) -> None:
    """Print the tables of winners and why kernels are missing from them."""
    console = Console(width=None if sys.stdout.isatty() else 200)
    for name, group in winner_tables.grouped(ranking):
        console.print(winner_tables.terminal(name, group))
        for sentence in winner_tables.growths(group):
            console.print(f"  {sentence}", markup=False, highlight=False)
    for sentence in winner_tables.why_not(ranking):
        console.print(f"not timed: {sentence}", style="dim", markup=False, highlight=False)
