"""`gradkernels estimate`: the stochastic gradient as an estimator of the true one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from gradkernels.bench.cli import data_options, options, parse
from gradkernels.bench.cli.files import import_from_here, require_free, require_picture, write_whole
from gradkernels.bench.cli.options import Format
from gradkernels.bench.cli.table_options import DataOptions
from gradkernels.bench.report.estimate_file import points_of
from gradkernels.bench.report.estimate_table import ParameterPoint, as_csv, as_json, measure
from gradkernels.bench.report.estimate_text import markdown, show_estimate
from gradkernels.bench.report.terminal.consoles import console_for
from gradkernels.bench.run.plan import problem_from
from gradkernels.case import Case
from gradkernels.check import Disagreement
from gradkernels.problems import BlackBox, LinearRegression, Problem
from gradkernels.problems.data.datasets import Dataset, notebook_points
from gradkernels.quantity import QUANTITIES
from gradkernels.truth import Floats


def estimate(
    problem: options.ProblemName = "linear",
    no_intercept: options.NoIntercept = False,
    data: data_options.StudiedData = "notebook",
    target: data_options.TargetColumn = None,
    features_from: data_options.FeatureColumns = None,
    ignore: data_options.IgnoredColumns = None,
    sep: data_options.ColumnSign = None,
    drop_na: data_options.DropNa = False,
    theta: options.ThetaNumbers = None,
    batch_sizes: options.BatchSizes = None,
    draws: options.Draws = options.USUAL_DRAWS,
    replace: options.WithReplacement = False,
    seed: options.DrawSeed = 0,
    kernel: options.RowsGlob = None,
    out: options.EstimateOut = None,
    plot: options.EstimatePlot = None,
    force: options.EstimateForce = False,
    format_: options.PrintedEstimate = Format.table,
) -> int:
    """Show that four ways give one true gradient, and how well mini-batches of each size estimate it.

    Exit codes: 0 done; 1 the ways disagree, or the kernel is wrong; 2 bad usage or bad input.
    """
    import_from_here()
    _refuse_outputs(out, plot, force)
    chosen = problem_from(problem, not no_intercept)
    if isinstance(chosen, BlackBox):
        raise ValueError(f"estimate is for regressions on a table of numbers, not for {chosen.name}")
    dataset = DataOptions(data, target, drop_na, False, features_from, ignore, sep).required(chosen)
    given: dict[str, Any] = {"draws": draws, "replace": replace, "seed": seed, "kernel": _key(kernel, chosen)}
    if batch_sizes is not None:
        given["batch_sizes"] = parse.sizes(batch_sizes)
    try:
        with Console(stderr=True).status("differentiating and drawing mini-batches"):
            points = measure(chosen, dataset, _thetas(theta, chosen, dataset, seed), **given)
    except Disagreement as error:
        print(f"gradkernels: {error}", file=sys.stderr)
        return 1
    return _conclude(points, out, plot, format_)


def _conclude(points: list[ParameterPoint], out: Path | None, plot: Path | None, format_: Format) -> int:
    from gradkernels.bench.report.pictures.estimate import draw_estimate

    # Before anything is printed: a pipe may be closed by then.
    if out is not None:
        write_whole(out, as_csv(points).encode())
    if plot is not None:
        write_whole(plot, draw_estimate(points_of(points), plot.suffix.lower()))
    _show(points, format_)
    for path in (out, plot):
        if path is not None:
            print(f"written: {path}", file=sys.stdout if format_ is Format.table else sys.stderr)
    return 0 if all(point.ways.agree for point in points) else 1


def _show(points: list[ParameterPoint], format_: Format) -> None:
    for note in points[0].data.notes:
        print(note, file=sys.stdout if format_ is Format.table else sys.stderr)
    if format_ is Format.table:
        show_estimate(console_for(), points)
    else:
        writers = {Format.markdown: markdown, Format.csv: as_csv, Format.json: as_json}
        sys.stdout.write(parse.chosen_writer(format_, writers)(points))


def _key(pattern: str | None, problem: Problem) -> str | None:
    """Return the first kernel for per-sample gradients that a pattern means; one that can be used here, if any."""
    if pattern is None:
        return None
    case = Case(problem, QUANTITIES["per_sample"], 1)
    found = parse.chosen_kernels([pattern], ["per_sample"], problem)
    return next((one for one in found if not one.unsupported(case)), found[0]).key


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
    from gradkernels.bench.report.pictures.estimate import FORMATS

    if plot is not None:
        require_picture(plot, FORMATS, out)
    for option, path in (("--out", out), ("--plot", plot)):
        if path is not None:
            require_free(option, path, force)
