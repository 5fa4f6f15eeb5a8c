"""`gradkernels ab`: two revisions of the code, side by side, now."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from gradkernels.bench.ab.interleaved import named_problem
from gradkernels.bench.ab.kernels import choose_kernels
from gradkernels.bench.ab.messages import Setting
from gradkernels.bench.ab.revisions import dependencies, revisions
from gradkernels.bench.ab.session import compare_sides
from gradkernels.bench.cli import options, parse
from gradkernels.bench.cli.compare import show
from gradkernels.bench.compare.thresholds_toml import chosen
from gradkernels.bench.isolation.environment import draw_cores
from gradkernels.bench.report.comparison_table import Format
from gradkernels.case import Case
from gradkernels.problems import LinearRegression
from gradkernels.quantity import QUANTITIES

DEFAULT = ("gradient", "per_sample")


def ab(
    before: Annotated[str, typer.Argument(metavar="REV1", help="A revision of this repository.")] = "HEAD",
    after: Annotated[str, typer.Argument(metavar="REV2", help="Another; . is the working tree as it is now.")] = ".",
    kernel: options.Kernels = None,
    quantity: Annotated[
        str | None, typer.Option(help=f"Names separated by commas, or all. [default: {','.join(DEFAULT)}]")
    ] = None,
    sizes: Annotated[str, typer.Option(help="10,100,1000, or 10:1e6 (a size per decade).")] = "10,1000,100000",
    problem: options.Problem = "linear",
    no_intercept: options.NoIntercept = False,
    features: Annotated[int, typer.Option(help="Columns of x.")] = 1,
    dtype: Annotated[str, typer.Option(help="float64 or float32.")] = "float64",
    layout: Annotated[str, typer.Option(help="Memory order of x: C or F.")] = "C",
    device: Annotated[str, typer.Option(help="cpu, or cuda for torch kernels.")] = "cpu",
    threads: Annotated[int, typer.Option(help="Threads that a kernel may use.")] = 1,
    seed: Annotated[int, typer.Option(help="Of the data.")] = 0,
    delta: Annotated[
        str | None, typer.Option(metavar="1%", help="A change counts only beyond this; 1% by default.")
    ] = None,
    fail_slower: Annotated[
        str | None,
        typer.Option(
            metavar="5%", help="Exit with code 1 if a kernel is slower by more than this, for all rows at once."
        ),
    ] = None,
    thresholds: Annotated[
        Path | None, typer.Option(metavar="FILE.toml", help="Limits for all cases and for some, as for compare.")
    ] = None,
    fail_undecided: Annotated[
        bool, typer.Option("--fail-undecided", help="Exit with code 3 if a kernel stays undecided.")
    ] = False,
    format_: Annotated[Format, typer.Option("--format", help="How to print it.")] = Format.table,
) -> int:
    """Say for each kernel and size whether one revision of the code is slower, faster or the same as another.

    Both run now, in turns on one core, each proven first. Works in the git repository of any package that declares
    kernels. Without --kernel: those that the repository declares, Python loops left out.

    Exit codes: 0 compared; 1 --fail-slower found something; 2 bad usage or bad input; 3 --fail-undecided did;
    4 a proof failed; 5 nothing was timed, or a revision differed from itself, so that no verdict can be trusted.
    """
    limits = chosen(thresholds, Path.cwd(), delta, fail_slower, "--")
    numbers, patterns = parse.sizes(sizes), kernel or []
    setting = Setting(problem, not no_intercept, features, dtype, layout, device, threads, seed)
    _validate(setting)
    with revisions(before, after, Path.cwd()) as sides:
        present = choose_kernels(sides, _quantities(quantity, patterns), patterns)
        comparison = compare_sides(sides, present, numbers, setting, limits, _tell)
        differ = dependencies(sides[0]) ^ dependencies(sides[1])
    show(comparison, format_)
    if differ:
        needs = ", ".join(sorted(differ))
        _say(f"{before} and {after} declare different dependencies ({needs}); both ran on what is installed here")
    if not draw_cores(threads, np.random.default_rng()):
        _say("unpinned: the processes could not be bound to one core, so less is found")
    return comparison.exit_code(fail_undecided)


def _say(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


def _validate(setting: Setting) -> None:
    """Refuse before anything is checked out what no case can have."""
    named_problem(setting)
    shared = {name: value for name, value in asdict(setting).items() if name not in ("problem", "fit_intercept")}
    Case(LinearRegression(), QUANTITIES["per_sample"], 1, **shared)


def _quantities(text: str | None, patterns: list[str]) -> list[str]:
    """Those asked for, else the default ones and those that end a pattern."""
    if text is not None:
        return parse.chosen_quantities(text)
    named = (pattern.rpartition(".")[2] for pattern in patterns)
    return list(dict.fromkeys([*DEFAULT, *(name for name in named if name in QUANTITIES)]))


def _tell(number: int, jobs: int) -> None:
    _say(f"pass {number}, {jobs} open")
