"""`gradkernels ab`: two revisions of the code, side by side, now."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from gradkernels.bench.ab.benchmarks.choose import choose_benchmarks, differing, relative_tests
from gradkernels.bench.ab.client import Side
from gradkernels.bench.ab.interleaved import Sides, Target, named_problem
from gradkernels.bench.ab.kernels import choose_kernels
from gradkernels.bench.ab.messages import Setting
from gradkernels.bench.ab.revisions import dependencies, revisions
from gradkernels.bench.ab.session import compare_targets
from gradkernels.bench.cli import options, parse
from gradkernels.bench.cli.commands.compare import show_comparison
from gradkernels.bench.cli.options import Format
from gradkernels.bench.compare.thresholds_toml import chosen
from gradkernels.bench.isolation.environment import draw_cores
from gradkernels.bench.isolation.limits import size_in_bytes
from gradkernels.case import Case
from gradkernels.problems import LinearRegression
from gradkernels.quantity import QUANTITIES

SIZES = "10,1000,100000"
Present = dict[Target, tuple[bool, bool]]


def ab(
    before: options.RevisionBefore = "HEAD",
    after: options.RevisionAfter = ".",
    tests: options.AbTests = None,
    kernel: options.KernelGlobs = None,
    quantity: options.AbQuantities = None,
    sizes: options.AbSizes = SIZES,
    problem: options.ProblemName = "linear",
    no_intercept: options.NoIntercept = False,
    features: options.AbFeatures = 1,
    dtype: options.AbDtype = "float64",
    layout: options.MemoryLayout = "C",
    device: options.DeviceName = "cpu",
    threads: options.ThreadLimit = 1,
    seed: options.DataSeed = 0,
    max_bytes: options.MaxBytes = None,
    delta: options.Delta = None,
    fail_slower: options.FailSlower = None,
    thresholds: options.AbThresholds = None,
    fail_undecided: options.FailUndecidedKernel = False,
    fail_missing: options.FailMissing = False,
    format_: options.Printed = Format.table,
    wide: options.Wide = False,
) -> int:
    """Say for each kernel and size whether one revision of the code is slower, faster or the same as another.

    Both run now, in turns on one core, proven first: what the repository declares without loops, --kernel or --tests.

    Exit codes: 0 compared; 1 --fail-slower found something; 2 bad usage or bad input; 3 --fail-undecided did;
    4 a proof failed; 5 nothing was timed, or a revision differed from itself; 6 --fail-missing found something.
    """
    limits = chosen(thresholds, Path.cwd(), delta, fail_slower, "--")
    setting = _valid(Setting(problem, not no_intercept, features, dtype, layout, device, threads, seed))
    choose, most = _chooser(tests or [], kernel or [], quantity, sizes, setting), _most(max_bytes)
    with revisions(before, after, Path.cwd()) as found:
        sides = _limited(found, most)
        comparison = compare_targets(sides, choose(sides), setting, limits, _tell)
        _warn(before, after, sides, threads)
    show_comparison(comparison, format_, wide)
    return comparison.exit_code(fail_undecided, fail_missing)


def _chooser(
    tests: list[str], patterns: list[str], quantity: str | None, sizes: str, setting: Setting
) -> Callable[[Sides], Present]:
    """Return what asks both sides what there is to time, once all that was typed makes sense."""
    numbers = parse.sizes(sizes)
    quantities = (
        parse.chosen_quantities(quantity, LinearRegression())
        if quantity
        else parse.quantities_of(patterns, options.AB_QUANTITIES)
    )
    if not tests:
        return partial(_kernels, patterns, quantities, numbers)
    given = {"--kernel": bool(patterns), "--quantity": quantity is not None, "--sizes": sizes != SIZES}
    usual = asdict(Setting(threads=setting.threads, seed=setting.seed))
    given |= {f"--{name.replace('fit', 'no')}": value != usual[name] for name, value in asdict(setting).items()}
    for option, was_given in given.items():
        if was_given:
            raise ValueError(f"{option.replace('_', '-')} is about kernels; leave it out beside --tests")
    if find_spec("pytest_benchmark") is None:
        raise ValueError("--tests needs pytest-benchmark: pip install 'gradkernels[bench]'")
    return partial(_benchmarks, relative_tests(tests, Path.cwd()), setting.threads)


def _kernels(patterns: list[str], quantities: list[str], sizes: Sequence[int], sides: Sides) -> Present:
    present = choose_kernels(sides, quantities, patterns)
    return {Target(key, n): both for n in sizes for key, both in present.items()}


def _benchmarks(tests: Sequence[str], threads: int, sides: Sides) -> Present:
    for sentence in differing(sides, tests):
        _say(sentence)
    return choose_benchmarks(sides, tests, threads)


def _most(max_bytes: str | None) -> int | None:
    return None if max_bytes is None else size_in_bytes(max_bytes)


def _limited(sides: tuple[Side, Side], most: int | None) -> tuple[Side, Side]:
    """Give the processes of both sides their memory."""
    return replace(sides[0], max_bytes=most), replace(sides[1], max_bytes=most)


def _warn(before: str, after: str, sides: tuple[Side, Side], threads: int) -> None:
    if differ := dependencies(sides[0]) ^ dependencies(sides[1]):
        needs = ", ".join(sorted(differ))
        _say(f"{before} and {after} declare different dependencies ({needs}); both ran on what is installed here")
    if not draw_cores(threads, np.random.default_rng()):
        _say("unpinned: the processes could not be bound to one core, so less is found")
    for remark in (*sides[0].remarks, *sides[1].remarks):
        _say(remark)


def _say(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


def _valid(setting: Setting) -> Setting:
    """Refuse before anything is checked out what no case can have; return the setting."""
    named_problem(setting)
    parse.require_device(setting.device)
    parse.require_threads([setting.threads])
    shared = {name: value for name, value in asdict(setting).items() if name not in ("problem", "fit_intercept")}
    Case(LinearRegression(), QUANTITIES["per_sample"], 1, **shared)
    return setting


def _tell(number: int, jobs: int) -> None:
    _say(f"pass {number}, {jobs} open")
