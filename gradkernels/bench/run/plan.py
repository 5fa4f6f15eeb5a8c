"""The plan of a run, which is made once and which every measuring process follows."""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import IO, Any

import numpy as np

from gradkernels.bench.isolation.errors import describe_fault
from gradkernels.bench.run.own_code import module_of, own_kernels, read_pickled
from gradkernels.case import Case, Inputs
from gradkernels.coordinates import Coordinates
from gradkernels.kernel import Kernel
from gradkernels.names import family_of, options_of, pick
from gradkernels.problems import REGRESSIONS, Problem
from gradkernels.problems.data.datasets import Dataset
from gradkernels.quantity import QUANTITIES
from gradkernels.registry import kernel as kernel_by_key


@dataclass(frozen=True)
class Plan:
    """What is measured; plain values, so that it travels in a message.

    Attributes:
        problem: Name of a regression, or `package.module:factory` or `file.py:factory` of a function that returns a
            Problem.
        pickled: The path of a pickled Problem, made in this very run, instead.
        own: A file with kernels of the caller's own: Python that declares them, or a pickle made in this very run.
        fit_intercept: For regressions.
        kernels: Keys of the kernels to time.
        sizes: Ascending.
        features: d; of the data set where there is one.
        dtype: Of inputs and results.
        layout: Memory order of x.
        device: Where to compute.
        threads: Threads that a kernel may use.
        seed: Of the data.
        data: An NPZ file with x and y: its path, or a file descriptor that measuring processes inherit; None for
            synthetic data.
        data_name: Name of the data set, for the problem column.
        resample: Whether to draw with replacement when a size is larger than the data.
        chosen: Positions, among all cases, of those to measure; None for all.
        part: Where it is a part of a larger run, what the names of its runs end in: `3of16-0123abcd-90rows`.
    """

    problem: str
    kernels: tuple[str, ...]
    sizes: tuple[int, ...]
    fit_intercept: bool = True
    features: int = 1
    dtype: str = "float64"
    layout: str = "C"
    device: str = "cpu"
    threads: int = 1
    seed: int = 0
    data: str | int | None = None
    data_name: str = ""
    resample: bool = False
    pickled: str = ""
    own: str = ""
    chosen: tuple[int, ...] | None = None
    part: str = ""

    @cached_property
    def cases(self) -> tuple[Case, ...]:
        """Every case that is to be measured, ascending in n, quantities in their order within a size."""
        return self._all if self.chosen is None else tuple(self._all[position] for position in self.chosen)

    @cached_property
    def _all(self) -> tuple[Case, ...]:
        asked = {self.kernel(key).quantity.name for key in self.kernels}
        return tuple(
            Case(
                self.subject, quantity, n, self.dtype, self.device, self.threads, self.layout, self.seed, self.features
            )
            for n in self.sizes
            for quantity in QUANTITIES.values()
            if quantity.name in asked
        )

    def kernels_of(self, case: Case) -> list[Kernel]:
        """Return the kernels to time on a case."""
        return [kernel for key in self.kernels if (kernel := self.kernel(key)).quantity == case.quantity]

    def kernel(self, key: str) -> Kernel:
        """Return the kernel with this key, the caller's own among them."""
        return self._own[key] if key in self._own else kernel_by_key(key)

    @cached_property
    def _own(self) -> dict[str, Kernel]:
        return own_kernels(self.own)

    def inputs(self, case: Case) -> Inputs:
        """Draw theta, x and y of a case: synthetic, or n rows of the data set."""
        if self._dataset is None:
            return case.draw()
        x, y = self._dataset.draw(case.n, case.seed, self.resample)
        return case.cast((case.problem.draw_theta(case.features, case.seed), x, case.problem.targets(y, case.seed)))

    @cached_property
    def _dataset(self) -> Dataset | None:
        if self.data is None:
            return None
        with _opened(self.data) as file, np.load(file, allow_pickle=False) as arrays:
            columns = tuple(map(str, arrays["columns"]))
            return Dataset(self.data_name, arrays["x"], arrays["y"], columns, arrays.get("weight"))

    def coordinates(self, case: Case) -> Coordinates:
        """Return the coordinates of a case, with the data set in the problem: `linear/diabetes`."""
        own = case.coordinates
        return replace(own, problem=f"{own.problem}/{self.data_name}") if self.data_name else own

    @cached_property
    def subject(self) -> Problem:
        """The Problem itself, a module's in this dtype and on this device."""
        if not self.pickled:
            return problem_from(self.problem, self.fit_intercept).for_proof(self.dtype, self.device)
        problem: Problem = read_pickled(self.pickled)
        return problem.for_proof(self.dtype, self.device)


def _opened(data: str | int) -> IO[bytes]:
    file = open(data if isinstance(data, str) else os.dup(data), "rb")  # noqa: SIM115
    file.seek(0)  # whoever shares the descriptor may have left it at the end
    return file


def problem_from(spec: str, fit_intercept: bool = True) -> Problem:
    """Return the Problem called `spec`: a regression such as `huber(delta=2)`, or `package.module:factory`.

    Raises:
        ValueError: No such regression (near names are listed), module or factory, or it raises or gives no Problem.
    """
    if ":" not in spec:
        return _regression(spec, fit_intercept)
    factory = _factory(spec)
    try:
        problem = factory()
    except (Exception, SystemExit) as error:  # a caller's code may raise anything
        said = f"problem {spec!r}: the call raised {describe_fault(error)}"
        raise ValueError(f"{said}; the function is called without arguments and must return a Problem") from error
    if not isinstance(problem, Problem):
        given = f"problem {spec!r} gave a {type(problem).__name__}, not a Problem"
        raise ValueError(f"{given}; return one, for instance gk.ModuleProblem(model, loss_fn, example=(x, y))")
    return problem


def _factory(spec: str) -> Any:
    """Import what `package.module:factory` names."""
    module, _, factory = spec.rpartition(":")
    in_file = module_of(module) if module.endswith(".py") else None
    try:
        return getattr(in_file, factory) if in_file else getattr(importlib.import_module(module), factory)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"problem {spec!r}: {error}; it names a function without arguments to import") from error
    except (Exception, SystemExit) as error:
        said = f"problem {spec!r}: the import of {module or 'a module'} raised {describe_fault(error)}"
        raise ValueError(f"{said}; name a module that can be imported, as in package.module:factory") from error


def _regression(spec: str, fit_intercept: bool) -> Problem:
    """Return the regression of `name` or `name(option=value,...)`; values are read, never evaluated."""
    family = family_of(spec)
    kind = pick(REGRESSIONS, family, "problem")
    allowed = {field.name: field for field in fields(kind)}
    try:
        given = options_of(spec)
    except ValueError:
        options = " and ".join(f"{name}={field.default}" for name, field in allowed.items())
        raise ValueError(
            f"problem {spec!r}: options are written as in {family}({[*allowed][-1]}=...), "
            f"with numbers or True and False; by default {options}"
        ) from None
    for name in given:
        pick(allowed, name, f"option of {family}")
    try:
        return kind(**{"fit_intercept": fit_intercept, **given})
    except (TypeError, ValueError) as error:
        raise ValueError(f"problem {spec!r}: {error}") from error
