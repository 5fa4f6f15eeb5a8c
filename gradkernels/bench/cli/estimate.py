"""`gradkernels estimate`: the stochastic gradient as an estimator of the true one."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console

from gradkernels.bench.cli import options, parse
from gradkernels.bench.report.estimate_table import Point, as_csv, measure
from gradkernels.bench.report.estimate_text import show
from gradkernels.bench.run.plan import problem_from
from gradkernels.check import Disagreement
from gradkernels.estimate.study import DRAWS
from gradkernels.problems import BlackBox, LinearRegression, Problem
from gradkernels.problems.data.datasets import Dataset, load, notebook_points

Floats = np.ndarray[Any, Any]
WIDTH = 110  # of output that is not a terminal, where tables must not be folded


def estimate(
    problem: options.Problem = "linear",
    no_intercept: options.NoIntercept = False,
    data: Annotated[str, typer.Option(help="notebook, diabetes, or a .csv, .parquet or .npz file.")] = "notebook",
    target: options.Target = None,
    drop_na: options.DropNa = False,
    theta: Annotated[
        str | None,
        typer.Option(
            metavar="NUMBERS",
            help="Parameters separated by commas, intercept first. [default: both points of the coursework for the "
            "notebook data, otherwise a random point]",
        ),
    ] = None,
    batch_sizes: Annotated[
        str | None,
        typer.Option(metavar="SIZES", help="1,2,4, or 1:1000 (a size per decade), or 1:1000:7. [default: 1,2,4,... n]"),
    ] = None,
    draws: Annotated[int, typer.Option(help="Mini-batches per size.")] = DRAWS,
    replace: Annotated[
        bool, typer.Option("--replace/--no-replace", help="Draw the rows of a mini-batch with replacement.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of the draws, and of a random theta.")] = 0,
    kernel: Annotated[
        str | None, typer.Option(metavar="KEY", help="What computes the per-sample gradients, for instance torch.vmap.")
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="CSV", help="Write the table there.")] = None,
    plot: Annotated[Path | None, typer.Option(metavar="PNG", help="Draw the picture there.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace --out and --plot if they are there.")] = False,
) -> int:
    """Show that four ways give one true gradient, and how well mini-batches of each size estimate it.

    Exit codes: 0 done; 1 the ways disagree, or the kernel is wrong; 2 bad usage or bad input.
    """
    options.import_from_here()
    _refuse_outputs(out, plot, force)
    dataset = load(data, target, drop_na)
    chosen = problem_from(problem, not no_intercept)
    if isinstance(chosen, BlackBox):
        raise ValueError(f"estimate is for regressions on a table of numbers, not for {chosen.name}")
    given: dict[str, Any] = {"draws": draws, "replace": replace, "seed": seed, "kernel": _key(kernel)}
    if batch_sizes is not None:
        given["batch_sizes"] = parse.sizes(batch_sizes)
    try:
        with Console(stderr=True).status("differentiating and drawing mini-batches"):
            points = measure(chosen, dataset, _thetas(theta, chosen, dataset, seed), **given)
    except Disagreement as error:
        print(f"gradkernels: {error}", file=sys.stderr)
        return 1
    return _conclude(points, out, plot)


def _conclude(points: list[Point], out: Path | None, plot: Path | None) -> int:
    from gradkernels.bench.report.estimate_plot import draw

    show(Console(width=None if sys.stdout.isatty() else WIDTH), points)
    if out is not None:
        _write(out, as_csv(points).encode())
    if plot is not None:
        _write(plot, draw(points, plot.suffix.lower()))
    return 0 if all(point.ways.agree for point in points) else 1


def _key(kernel: str | None) -> str | None:
    """`torch.vmap` means its per-sample kernel."""
    return f"{kernel}.per_sample" if kernel and kernel.count(".") == 1 else kernel


def _thetas(text: str | None, problem: Problem, data: Dataset, seed: int) -> dict[str, Floats]:
    shape = problem.shape(data.features)
    if text is not None:
        return {"theta": _theta(text, shape, f"{problem.name} on {data.name}")}
    if data.name == "notebook" and problem == LinearRegression():
        return notebook_points()
    return {f"theta drawn with seed {seed}": problem.draw_theta(data.features, seed)}


def _theta(text: str, shape: tuple[int, ...], what: str) -> Floats:
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"--theta {text!r} is not numbers separated by commas; write for instance 0.5,-1") from None
    wanted = int(np.prod(shape))
    if len(values) != wanted or not np.isfinite(values).all():
        raise ValueError(f"--theta {text!r}: {what} takes {wanted} finite numbers, the intercept first if there is one")
    return np.array(values).reshape(shape)


def _refuse_outputs(out: Path | None, plot: Path | None, force: bool) -> None:
    from gradkernels.bench.report.estimate_plot import FORMATS

    if plot is not None and plot.suffix.lower() not in FORMATS:
        raise ValueError(f"--plot {plot}: pictures end in {', '.join(FORMATS)}")
    if out is not None and plot is not None and out.resolve() == plot.resolve():
        raise ValueError(f"--out and --plot are both {out}; name two files")
    for option, path in (("--out", out), ("--plot", plot)):
        if path is not None:
            _refuse_output(option, path, force)


def _refuse_output(option: str, path: Path, force: bool) -> None:
    """Made sure of before anything is computed; missing folders are made when there is something to put into them."""
    if path.is_dir():
        raise ValueError(f"{option} {path} is a folder; name a file in it")
    if path.exists() and not force:
        raise ValueError(f"{option} {path} is there already; replace it with --force or name another file")
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    try:
        # Permission bits do not tell: the superuser passes them, and the file system may be read-only.
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise type(error)(f"{option} {path}: cannot write to {folder} ({error.strerror}); name another file") from None


def _write(path: Path, content: bytes) -> None:
    """All or nothing: the file appears complete or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(content)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    print(f"written: {path}")
