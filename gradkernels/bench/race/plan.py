"""The plan of a race on a caller's own arrays: what is measured, and how problem and data get to the processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from traceback import walk_tb
from typing import Any

import numpy as np

from gradkernels.bench.isolation.errors import describe_fault
from gradkernels.bench.run.own_code import write_pickled
from gradkernels.bench.run.plan import Plan
from gradkernels.check.reference import Reference
from gradkernels.dispatch.rule import rank
from gradkernels.kernel import Kernel
from gradkernels.problems import ExampleProblem, Problem
from gradkernels.problems.module.requirements import shapes_of
from gradkernels.quantity import Quantity
from gradkernels.registry import kernels
from gradkernels.tree import Tree, count, leaves
from gradkernels.validate import device_of, dtype_of, validate_asked, validate_inputs

COMPILE_SECONDS = 30.0
"""What compiling a module's way takes, about; half of a race's budget may go into it."""

IMPORT_SECONDS = 30.0
"""Of a budget, from which ways of other packages than torch race for a module: loading those takes seconds a pass."""

SOUNDNESS_SAMPLES = 4
"""Samples of a module's data by which it is seen whether they have gradients of their own."""


def plan_race(problem: Problem, quantity: Quantity, like: tuple[Tree, Tree, Tree], folder: Path, budget: float) -> Plan:
    """Plan what to measure for a race.

    Args:
        problem: What is differentiated.
        quantity: What is asked.
        like: `(theta, x, y)`; theta may be None for modules.
        folder: For what is handed to the measuring processes.
        budget: Seconds.

    Raises:
        ValueError: Shapes that do not fit, a module without per-sample gradients, or one that cannot be pickled.
        TypeError: Arrays of the wrong kind or dtype.
    """
    theta, x, y = like
    validate_asked(problem, quantity, y)
    theta, x, y = problem.as_inputs(theta, x, y)
    library = validate_inputs(problem, theta, x, y)
    if isinstance(problem, ExampleProblem):
        return _of_module(problem, quantity, (theta, x, y), folder, budget)
    theta, x, y = library.get((theta, x, y))
    data, features = folder / "data.npz", problem.features(x)
    target, weight = leaves(y)[0], dict(zip(("weight",), leaves(y)[1:], strict=False))
    np.savez(data, x=x, y=target, columns=np.array([str(i) for i in range(features)]), **weight)
    return Plan(
        problem=problem.name,
        pickled=write_pickled(problem, folder / "problem.pickle", "the problem"),
        kernels=tuple(kernel.key for kernel in kernels(problem, quantity) if not kernel.compiles),
        sizes=(count(y),),
        features=features,
        dtype=dtype_of(theta),
        layout="F" if x.ndim > 1 and x.flags.f_contiguous and not x.flags.c_contiguous else "C",
        data=str(data),
        data_name="race",
    )


def _of_module(problem: Any, quantity: Quantity, like: tuple[Tree, Tree, Tree], folder: Path, budget: float) -> Plan:
    """Plan a race for a module: the caller's data become its example, from which the measuring processes draw."""
    theta, x, y = like
    plan = Plan(
        problem=problem.name,
        pickled=write_pickled(replace(problem, example=(x, y)), folder / "problem.pickle", "the problem"),
        kernels=tuple(kernel.key for kernel in candidates_within_budget(kernels(problem, quantity), count(y), budget)),
        sizes=(count(y),),
        dtype=dtype_of(leaves(theta)[0]),
        device=device_of(leaves(theta)[0]),
    )
    require_sound(plan)
    return plan


def candidates_within_budget(among: Sequence[Kernel], n: int, budget: float) -> list[Kernel]:
    """Return who races: torch's kernels, in chunks of several sizes, others and those that compile if there is time.

    Args:
        among: The kernels for the problem and quantity.
        n: Samples.
        budget: Seconds for the whole race.
    """
    near = [kernel for kernel in among if budget >= IMPORT_SECONDS or kernel.backend.host is kernel.backend]
    plain = [variant for kernel in near if not kernel.compiles for variant in kernel.variants(n)]
    compiled = [
        (place, rank(kernel), variant)
        for kernel in among
        if kernel.compiles
        for place, variant in enumerate(kernel.variants(n))
    ]
    # The default chunk of each comes before other chunks of any.
    compiled.sort(key=lambda one: one[:2])
    return plain + [variant for _, _, variant in compiled[: int(budget / 2 / COMPILE_SECONDS)]]


def require_sound(plan: Plan) -> None:
    """Raise a ValueError for a module that fails on its data, or whose samples have no gradients of their own."""
    if isinstance(plan.subject, ExampleProblem):
        case = replace(plan.cases[0], n=min(max(plan.sizes), SOUNDNESS_SAMPLES))
        inputs = plan.inputs(case)
        case.problem.validate(*inputs)
        with np.errstate(all="ignore"), _explained(*inputs[1:]):
            _ = Reference(case.problem, *inputs).gradient


@contextmanager
def _explained(x: Tree, y: Tree) -> Iterator[None]:
    """Turn what the model or its loss raises into a sentence; what its problem says already is one."""
    try:
        yield
    except Exception as fault:  # a caller's code may raise anything
        *_, (frame, _) = walk_tb(fault.__traceback__)
        if isinstance(fault, ValueError) and frame.f_globals["__name__"].startswith(
            ("gradkernels.problems.", "gradkernels.check.")
        ):
            raise
        raise ValueError(
            f"the model or its loss_fn fails on {shapes_of(x, y)}: {describe_fault(fault)}; "
            "give x and y as they take them, samples first (of a ModuleProblem its example)"
        ) from fault
