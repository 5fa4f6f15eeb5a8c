"""From the options of `gradkernels run` to its plan: what they leave open, and what has no meaning for a module.

A problem that a person wrote is tried in a process of its own first, with the limits of those that measure: its code
may hang, take all memory or end its process, and the command has to say so.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from typing import IO, Any

import numpy as np

from gradkernels.bench.cli import parse
from gradkernels.bench.cli.files import import_from_here
from gradkernels.bench.cli.table_options import DataOptions
from gradkernels.bench.isolation.errors import WorkerDied, says_exhausted
from gradkernels.bench.isolation.fresh_process import call_in_fresh_process
from gradkernels.bench.isolation.limits import DEFAULT_LIMITS, ProcessLimits
from gradkernels.bench.race.plan import require_sound
from gradkernels.bench.run.own_code import kernels_of_file
from gradkernels.bench.run.plan import Plan, problem_from
from gradkernels.bench.sweep.shards import shard_from, sharded
from gradkernels.names import split_names
from gradkernels.problems import ExampleProblem, Problem
from gradkernels.problems.data.datasets import Dataset, require_range
from gradkernels.tree import leaves
from gradkernels.validate import dtype_of

RUN_SIZES = "10:1e6"
DECADES = tuple(10**exponent for exponent in range(1, 7))
MODULE_SIZES = (10, 100, 1000)
FEW_ROWS = 4
"""Samples by which it is seen whether data fit a problem."""


@dataclass(frozen=True)
class CaseOptions:
    """The options of where and on what to compute, as typed; of features, dtype and threads perhaps several."""

    sizes: str | None
    features: str | None
    dtype: str | None
    layout: str
    device: str
    threads: str
    seed: int
    executor: str | None = None


@dataclass(frozen=True)
class PlanOptions:
    """Everything that a plan is made of, as a person wrote it.

    Attributes:
        problem: A regression such as `huber(delta=2)`, or `package.module:factory`.
        no_intercept: For regressions.
        quantity: Names separated by commas, or `all`.
        kernels: Globs.
        own: A Python file that declares kernels of the person's own, if there is one.
        cases: Sizes and the other coordinates.
        data: The data set and how to read it.
        shard: Which part of the cases, as in `3/16`; None for all.
    """

    problem: str
    no_intercept: bool
    quantity: str
    kernels: list[str]
    own: str | None
    cases: CaseOptions
    data: DataOptions
    shard: str | None = None


Planned = tuple[list[Plan], tuple[str, ...]]


@contextmanager
def planned(options: PlanOptions, limits: ProcessLimits = DEFAULT_LIMITS) -> Iterator[Planned]:
    """Make the plans, one for each combination of features, dtype and threads; hold the file of their data.

    Beside them is what a reader should know of the data: rows left out, and numbers of classes.

    Args:
        options: What a person asked for.
        limits: Of the process that tries a problem of the person's own.

    Raises:
        ValueError: An option means nothing, or does not fit the others or the data.
    """
    import_from_here()
    parse.require_device(options.cases.device)
    shard = None if options.shard is None else shard_from(options.shard)
    if options.own and not options.own.endswith(".py"):
        raise ValueError(f"--kernels-from {options.own}: name a file of Python, which ends in .py")
    if ":" in options.problem or options.own:
        _try_out(options, limits)
    with _plans_of(options) as (plans, dataset):
        if not (":" in options.problem or options.own):
            _require_fit(plans, dataset)
        yield sharded(plans, shard), dataset.notes if dataset else ()


def _try_out(options: PlanOptions, limits: ProcessLimits) -> None:
    """Raise a ValueError unless the plan can be made in a process that is limited."""
    where, threads = f"{__name__}:refusal", max(parse.whole_numbers(options.cases.threads, "--threads"))
    try:
        says = call_in_fresh_process(where, {"given": asdict(options)}, threads, None, limits, ["torch"])
    except WorkerDied as death:
        says = f"problem {options.problem!r} was tried in a process of its own: {death.reason}"
    if says:
        limited = says_exhausted(says) and limits.max_bytes is not None
        raise ValueError(says + (f" (--max-bytes {limits.max_bytes})" if limited else ""))


def refusal(given: dict[str, Any]) -> str:
    """Return why there is no plan for options, as JSON has them; nothing where there is one."""
    cases, data = CaseOptions(**given.pop("cases")), DataOptions(**given.pop("data"))
    try:
        with _plans_of(PlanOptions(cases=cases, data=data, **given)) as (plans, dataset):
            _require_fit(plans, dataset)
    except ValueError as error:
        return str(error)
    except OSError:  # of a file of data, which whoever asked opens as well
        return ""
    return ""


@contextmanager
def _plans_of(options: PlanOptions) -> Iterator[tuple[list[Plan], Dataset | None]]:
    problem, cases = problem_from(options.problem, not options.no_intercept), options.cases
    quantities = parse.chosen_quantities(options.quantity, problem)
    own = kernels_of_file(options.own) if options.own else {}
    chosen = parse.chosen_kernels(options.kernels, quantities, problem, own)
    if isinstance(problem, ExampleProblem):
        given = {"--data": options.data.data, "--features": cases.features, "--no-intercept": options.no_intercept}
        refuse_for_module(given)
    with _dataset_file(options.data, problem) as (dataset, file):
        plan = Plan(
            problem=options.problem,
            kernels=tuple(kernel.key for kernel in chosen),
            sizes=_sizes(cases.sizes, problem, dataset, options.data.resample),
            fit_intercept=not options.no_intercept,
            layout=cases.layout,
            device=cases.device,
            seed=cases.seed,
            data=file,
            data_name=dataset.name if dataset else "",
            resample=options.data.resample,
            own=options.own or "",
        )
        plans = _swept(plan, cases, problem, dataset)
        _ = [one.cases for one in plans]
        yield plans, dataset


def _swept(plan: Plan, cases: CaseOptions, problem: Problem, dataset: Dataset | None) -> list[Plan]:
    """Return the plan with each combination of features, dtype and threads.

    Args:
        plan: With whatever of them.
        cases: What was asked for.
        problem: Whose own dtype is the usual one.
        dataset: Whose number of features there is no choice of.
    """
    dtypes = [own_dtype(problem)] if cases.dtype is None else list(dict.fromkeys(split_names(cases.dtype)))
    threads = parse.whole_numbers(cases.threads, "--threads")
    if not cases.executor:  # whose machines have processors of their own
        parse.require_threads(threads)
    combinations = itertools.product(_features(cases.features, dataset), dtypes, threads)
    return [replace(plan, features=d, dtype=dtype, threads=count) for d, dtype, count in combinations]


def _require_fit(plans: Sequence[Plan], dataset: Dataset | None) -> None:
    """Raise a ValueError where the problem does not compute on its data, or has no per-sample gradients."""
    if dataset is not None:
        plans[0].subject.targets(dataset.y, plans[0].seed)  # all of them, whatever the sizes
        require_range(dataset, [plan.dtype for plan in plans])
    for plan in plans:
        first = plan.cases[0]
        plan.inputs(replace(first, n=min(first.n, FEW_ROWS)))  # large ones are for processes that are limited
        require_sound(plan)


def own_dtype(problem: Problem) -> str:
    """Return `float32` for most modules, `float64` for regressions; half precision is measured as float32."""
    if not isinstance(problem, ExampleProblem):
        return "float64"
    dtype = dtype_of(leaves(problem.parameters())[0])
    return dtype if dtype == "float64" else "float32"


def refuse_for_module(given: Mapping[str, object]) -> None:
    """Raise a ValueError for the first option that was given."""
    for option, value in given.items():
        if value is not None and value is not False:
            raise ValueError(
                f"{option} is for regressions; a module has its data in ModuleProblem(..., example=(x, y))"
            )


@contextmanager
def _dataset_file(options: DataOptions, problem: Problem) -> Iterator[tuple[Dataset | None, int | None]]:
    """Yield the data set, and the descriptor of a file of it that the measuring processes read."""
    dataset = options.load(problem)
    if dataset is None:
        yield None, None
        return
    with _nameless(dataset) as file:
        yield dataset, file.fileno()


def _nameless(dataset: Dataset) -> IO[bytes]:
    """Write the data to a temporary file without a name, so that nothing can leave it behind."""
    file = tempfile.TemporaryFile()  # noqa: SIM115
    try:
        np.savez(file, x=dataset.x, y=dataset.y, columns=np.array(dataset.columns))
        file.flush()
    except OSError as error:
        with suppress(OSError):  # it would write the rest
            file.close()
        raise OSError(error.errno, error.strerror, f"a copy of {dataset.name} in {tempfile.gettempdir()}") from None
    return file


def _sizes(text: str | None, problem: Problem, dataset: Dataset | None, resample: bool) -> tuple[int, ...]:
    if isinstance(problem, ExampleProblem) and text is None:
        return MODULE_SIZES
    if dataset is None:
        return parse.sizes(text or RUN_SIZES)
    if text is None:
        return (*(n for n in DECADES if n < dataset.size), dataset.size)
    chosen = parse.sizes(text)
    dataset.draw(max(chosen), 0, resample)
    return chosen


def _features(given: str | None, dataset: Dataset | None) -> list[int]:
    if dataset is None:
        return [1] if given is None else parse.whole_numbers(given, "--features")
    if given is not None:
        raise ValueError(f"--features {given}: {dataset.name} has {dataset.features}; leave --features out")
    return [dataset.features]
