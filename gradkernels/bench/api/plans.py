"""From the arguments of `gk.run` to the plans of its sessions, one for each problem."""

from __future__ import annotations

import math
from collections.abc import Iterable
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypedDict

from gradkernels.bench.cli import parse
from gradkernels.bench.cli.run_plan import FEW_ROWS, MODULE_SIZES, RUN_SIZES, own_dtype
from gradkernels.bench.race.plan import require_sound
from gradkernels.bench.run.own_code import with_composed, write_pickled
from gradkernels.bench.run.plan import Plan, problem_from
from gradkernels.bench.sweep.shards import Shard, expecting, sharded
from gradkernels.kernel import Kernel
from gradkernels.names import pick
from gradkernels.problems import ExampleProblem, Problem
from gradkernels.registry import kernels as registered
from gradkernels.validate import validate_problem

Problems = str | Problem | Iterable[str | Problem]
Kernels = str | Kernel | Iterable[str | Kernel] | None


class RunOptions(TypedDict, total=False):
    """How and on what to measure, as the options of `gradkernels run` of the same names.

    Attributes:
        passes: Fresh starts of the measuring process, 8 by default; verdicts need 4.
        features: d, the columns of x of regressions; 1 by default.
        dtype: float64 or float32; None for float64, and a module's own.
        layout: Memory order of x, C or F.
        device: cpu, or cuda for torch kernels.
        threads: That a kernel may use; 1 by default.
        seed: Of the data.
        timeout: Seconds without a sign of life after which a measuring process is ended; 60 by default.
        max_bytes: Memory of a measuring process; None for most of the machine's.
        shard: `(3, 16)` to measure only that part of the cases; None for all.
        executor: Of `concurrent.futures`, whose workers have gradkernels installed, to measure case by case on their
            machines: of dask `client.get_executor(pure=False)`; None for this machine.
    """

    passes: int
    features: int
    dtype: str | None
    layout: str
    device: str
    threads: int
    seed: int
    timeout: float
    max_bytes: int | None
    shard: tuple[int, int] | None
    executor: Executor | None


USUAL_OPTIONS = RunOptions(
    passes=8,
    features=1,
    dtype=None,
    layout="C",
    device="cpu",
    threads=1,
    seed=0,
    timeout=60.0,
    max_bytes=None,
    shard=None,
    executor=None,
)


def require_options(given: RunOptions, budget: float) -> RunOptions:
    """Return all options, those that were not given as they usually are.

    Args:
        given: RunOptions.
        budget: Seconds.

    Raises:
        TypeError: The executor is none.
        ValueError: There is no such option, or a number is not positive.
    """
    for name in given:
        pick(dict(USUAL_OPTIONS), name, "option")
    options: RunOptions = {**USUAL_OPTIONS, **given}
    for name, value in {"budget": budget, "timeout": options["timeout"]}.items():
        if not isinstance(value, int | float) or not 0 < value < math.inf:
            raise ValueError(f"{name} is {value!r}; it must be a positive number")
    whole = {name: options[name] for name in ("passes", "features", "threads")}
    for name, value in {**whole, "max_bytes": options["max_bytes"] or 1}.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} is {value!r}; it must be a whole number of at least 1")
    parse.require_device(options["device"])
    if (executor := options["executor"]) is None:
        parse.require_threads([options["threads"]], "threads")
    elif not isinstance(executor, Executor):
        raise TypeError(f"executor is a {type(executor).__name__}; it must be one of concurrent.futures, as "
                        "client.get_executor(pure=False) of dask is")  # fmt: skip
    return options


def plans_for(
    problems: Problems,
    asked: tuple[str | Iterable[str] | None, Kernels, str | Iterable[int] | None],
    options: RunOptions,
    folder: Path,
) -> list[Plan]:
    """Plan what to measure of each problem.

    Args:
        problems: One or several.
        asked: Quantities, kernels and sizes, as they were given.
        options: All of them.
        folder: For what is handed to the measuring processes.

    Raises:
        ValueError: There are none, or something does not exist or does not fit.
    """
    quantities, kernels, sizes = asked
    given, chosen = _listed(problems), None if kernels is None else _listed(kernels)
    if not given:
        raise ValueError("problems is empty; give one or more, for instance 'linear' or gk.ModuleProblem(...)")
    sizes = sizes if sizes is None or isinstance(sizes, str) else ",".join(map(str, sizes))
    what = Asked(_names(quantities, chosen), chosen, _own(chosen), sizes)
    plans = [_plan(_problem(one), folder / str(place), what, options) for place, one in enumerate(given)]
    shard = None if options["shard"] is None else Shard(*options["shard"])
    return expecting(sharded(plans, shard), options["passes"])


@dataclass(frozen=True)
class Asked:
    """What is to be measured of each problem.

    Attributes:
        quantities: Names.
        kernels: Globs and Kernels; None for all.
        own: Kernels that are not installed, by key, with what is composed of them.
        sizes: As on the command line; None for the usual ones.
    """

    quantities: list[str]
    kernels: list[str | Kernel] | None
    own: dict[str, Kernel]
    sizes: str | None


def _names(quantities: str | Iterable[str] | None, kernels: list[str | Kernel] | None) -> list[str]:
    if quantities is not None:
        return parse.chosen_quantities(quantities if isinstance(quantities, str) else ",".join(quantities))
    of_kernels = (one.quantity.name for one in kernels or () if isinstance(one, Kernel))
    return list(dict.fromkeys(["gradient", "per_sample", *of_kernels]))


def _own(kernels: list[str | Kernel] | None) -> dict[str, Kernel]:
    known = set(registered())
    return with_composed(one for one in kernels or () if isinstance(one, Kernel) and one not in known)


def _plan(problem: Problem, place: Path, asked: Asked, options: RunOptions) -> Plan:
    """Plan what to measure of one problem.

    Args:
        problem: It.
        place: Where pickles of it and of kernels go, with other endings.
        asked: Quantities, kernels and sizes.
        options: All of them.
    """
    patterns = [one if isinstance(one, str) else one.way for one in asked.kernels or ()]
    chosen = parse.chosen_kernels(patterns, asked.quantities, problem, asked.own)
    usual = MODULE_SIZES if isinstance(problem, ExampleProblem) else parse.sizes(RUN_SIZES)
    plan = Plan(
        problem=problem.name,
        pickled=write_pickled(problem, place.with_suffix(".problem"), "the problem"),
        own=_pickled_kernels(asked.own, place.with_suffix(".kernels")),
        # What is written for another of the problems is no reason for a row.
        kernels=tuple(one.key for one in [one for one in chosen if one.accepts(problem)] or chosen),
        sizes=usual if asked.sizes is None else parse.sizes(asked.sizes),
        dtype=options["dtype"] or own_dtype(problem),
        features=options["features"],
        layout=options["layout"],
        device=options["device"],
        threads=options["threads"],
        seed=options["seed"],
    )
    first = plan.cases[0]
    plan.inputs(replace(first, n=min(first.n, FEW_ROWS)))  # large ones are for processes that are limited
    require_sound(plan)
    return plan


def _pickled_kernels(own: dict[str, Kernel], path: Path) -> str:
    """Save what is declared, of which the rest is composed again; return the path, or nothing where there is none."""
    declared = [kernel for kernel in own.values() if not kernel.composed]
    return write_pickled(declared, path, "a kernel") if declared else ""


def _listed(given: Any) -> list[Any]:
    return [given] if isinstance(given, str | Problem | Kernel) else list(given)


def _problem(given: str | Problem) -> Problem:
    if isinstance(given, str):
        return problem_from(given)
    validate_problem(given)
    return given
