"""The worker on one revision: proves its kernels and times them in turns with the worker on the other.

The harness is the one that was called, the library under it is the revision's: `isolation.program.BOOT` puts this
folder in the place of the revision's `gradkernels.bench`. So this module, and what it imports, uses nothing of the
library but backends, cases, the proof, kernels, problems, the registry and trees, by names that older revisions have.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from gradkernels.backend import BACKENDS
from gradkernels.bench.ab.messages import (
    KernelFacts,
    KernelsListed,
    ListKernels,
    Load,
    Loaded,
    Prepare,
    Prepared,
    Refused,
    SlicesTimed,
    TimeSlices,
)
from gradkernels.bench.ab.origin import packages, require_origin
from gradkernels.bench.ab.turns import LONGEST_CALL, WARM_UP_SECONDS, Turns
from gradkernels.bench.isolation import environment
from gradkernels.bench.isolation.errors import WorkerUnusable, explain_fault, failure_reason
from gradkernels.bench.isolation.worker_side import Connection
from gradkernels.bench.timing.shared_inputs import SharedInputs
from gradkernels.bench.timing.slices import WARM_SLICES, TimedCall, time_slice, warm_up
from gradkernels.case import Case, Inputs
from gradkernels.check import Disagreement, prove
from gradkernels.kernel import Compute, Kernel
from gradkernels.problems import REGRESSIONS, Problem, Weighted
from gradkernels.registry import kernel as kernel_by_key
from gradkernels.registry import kernels
from gradkernels.tree import leaves


def main(connection: Connection) -> None:
    """Answer orders until there are no more."""
    worker = RevisionWorker()
    answers: dict[type, Callable[[Any], Any]] = {
        ListKernels: worker.list_kernels,
        Load: worker.load,
        Prepare: worker.prepare,
        TimeSlices: worker.time_slices,
    }
    while (order := connection.receive(*answers)) is not None:
        try:
            answer = answers[type(order)](order)
        except WorkerUnusable:
            raise
        except Exception as fault:  # what a revision does when it is imported and built can be anything
            connection.send(Refused(explain_fault(fault)))
            return  # and the other worker hears of it
        connection.send(answer)


class RevisionWorker:
    """One side of a comparison; each public method follows one kind of order."""

    def list_kernels(self, order: ListKernels) -> KernelsListed:
        """Say what this revision can compute."""
        root = Path(order.root)
        found = [
            KernelFacts(one.way, one.quantity.name, bool(one.loops), _declared_in(one, root))
            for one in kernels()
            if one.quantity.name in order.quantities
        ]
        require_origin(root)
        return KernelsListed(tuple(found))

    def load(self, order: Load) -> Loaded:
        """Load the libraries, make sure of the revision, and go to the cores where the timing takes place."""
        self.turns = Turns(order.wait_pipe, order.give_pipe)
        self.inputs = Path(order.inputs)
        self.rng = np.random.default_rng(order.seed)
        named = ("problem", "fit_intercept")
        self.coordinates = {name: value for name, value in asdict(order.setting).items() if name not in named}
        for library in order.libraries:
            BACKENDS[library].load()
        if "torch" in order.libraries:
            environment.limit_torch(order.setting.threads)
        kernels()
        self.problem = _problem(order.problem, order.options)
        require_origin(Path(order.root))
        environment.pin_to(order.cores)
        return Loaded()

    def prepare(self, order: Prepare) -> Prepared:
        """Build, prove and warm up a kernel.

        Raises:
            WorkerUnusable: It ran out of memory.
        """
        chosen = kernel_by_key(order.kernel)
        case = Case(self.problem, chosen.quantity, order.n, **self.coordinates)
        if reasons := chosen.unsupported(case):
            return Prepared("unsupported", "; ".join(reasons))
        case = _for_proof(case)
        try:
            return self._prepare(chosen, case)
        except Disagreement as disagreement:
            # Revisions that know of data of which nothing can be proven say so by the class.
            unprovable = type(disagreement).__name__ == "Unprovable"
            return Prepared("failed" if unprovable else "wrong", str(disagreement))
        except Exception as fault:  # a kernel may raise anything, and the session goes on
            return Prepared("failed", failure_reason(fault))

    def _prepare(self, kernel: Kernel, case: Case) -> Prepared:
        inputs = self._drawn(kernel, case)
        self.shared = SharedInputs(inputs, [kernel.backend.host.name], case.device, self.rng)
        compute = kernel.build(case.problem)
        self.timed = TimedCall(kernel.key, self._call(kernel, _ready(compute, kernel, case, inputs), case.device))
        self.timed.call()  # loads and compiles
        started = perf_counter()
        self.timed.call()
        if (seconds := perf_counter() - started) > LONGEST_CALL:
            return Prepared("timeout", f"a call takes {seconds:.2g} s, more than {LONGEST_CALL:g} s")
        prove(kernel, compute, case, self.shared.inputs)
        warm_up(self.timed, WARM_UP_SECONDS)
        seconds = min(time_slice(self.timed.call, self.timed.iterations) for _ in range(WARM_SLICES))
        return Prepared("ok", seconds=seconds)

    def _call(self, kernel: Kernel, compute: Compute, device: str) -> Any:
        arrays, name, wait = self.shared.arrays, kernel.backend.host.name, kernel.backend.wait
        if device == "cpu" and name != "jax":  # computed when the call returns
            return lambda: compute(*arrays[name])
        return lambda: wait(compute(*arrays[name]))

    def _drawn(self, kernel: Kernel, case: Case) -> Inputs:
        """Return the inputs that the first of both workers drew and saved, so that both sides have the same."""
        if _is_black_box(case.problem):
            return case.draw()
        path = self.inputs / f"{kernel.quantity.name}-{case.n}.npz"
        if not path.exists():
            np.savez(path, *leaves(case.draw()))
        with np.load(path, allow_pickle=False) as arrays:
            theta, x, *y = arrays.values()
        return case.cast((theta, x, Weighted(*y) if len(y) > 1 else y[0]))

    def time_slices(self, order: TimeSlices) -> SlicesTimed:
        """Time each slice that is this worker's; none if the other worker goes away."""
        return self.turns.time(order, self.timed, self.shared.renew)


def _problem(name: str, options: dict[str, Any]) -> Problem:
    module, colon, factory = name.partition(":")
    if colon:
        problem: Problem = getattr(importlib.import_module(module), factory)()
        return problem
    if name not in REGRESSIONS:
        raise ValueError(f"it has no problem {name!r}, only {', '.join(REGRESSIONS)}")
    return REGRESSIONS[name](**options)


def _for_proof(case: Case) -> Case:
    """Return the case that is proven in its place; earlier revisions have another name for it, or none."""
    names = [name for name in ("for_proof", "provable") if hasattr(case, name)]
    proven: Case = getattr(case, names[0])() if names else case
    return proven


def _is_black_box(problem: Problem) -> bool:
    """Tell whether nothing is known of a problem but that it computes; earlier revisions have another name for it."""
    return bool(getattr(problem, "is_black_box", False) or getattr(problem, "opaque", False))


def _ready(compute: Compute, kernel: Kernel, case: Case, inputs: Inputs) -> Compute:
    """Return a compute that takes theta, x and y alone; earlier revisions have no quantity that needs more."""
    if not hasattr(case.quantity, "needs"):
        return compute
    options = importlib.import_module("gradkernels.check.call_options")
    ready: Compute = options.with_needed(compute, case, inputs, kernel.backend)
    return ready


def _declared_in(kernel: Kernel, root: Path) -> bool:
    """Tell whether the kernel, or the per-sample kernel that it is composed of, is code of the repository."""
    declared = kernel_by_key(f"{kernel.way.removesuffix('+')}.per_sample") if kernel.composed else kernel
    return declared.builder.__module__.partition(".")[0] in packages(root)
