"""From kernels to outcomes: build, first call, proof, warm-up; then the race, and a second proof."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np

from gradkernels.backend import BACKENDS, Backend
from gradkernels.bench.isolation import environment
from gradkernels.bench.isolation.errors import WorkerUnusable, reason
from gradkernels.bench.timing.background import Unrest
from gradkernels.bench.timing.bandwidth import Bandwidth
from gradkernels.bench.timing.outcome import OUT, Outcome, Racer, Ready, control
from gradkernels.bench.timing.shared_inputs import SharedInputs
from gradkernels.bench.timing.slices import race, warm_up
from gradkernels.case import Case
from gradkernels.check import Disagreement, Proof, prove
from gradkernels.check.reference import Reference
from gradkernels.dispatch.wisdom import CONVERT, YARDSTICKS
from gradkernels.kernel import Compute, Kernel
from gradkernels.tree import each, leaves

Begin = Callable[[Kernel | None], None]
"""Told whose turn it is; None for the harness itself."""


class Contest:
    """One case in one pass: prepares kernels one by one, races them, proves them again.

    What a kernel raises, `SystemExit` and the like too, ends its own part only; running out of memory ends the
    process.

    Args:
        case: What to compute.
        reference: Of the case's data, which it holds as numpy arrays.
        again: Of other data of the same shapes, for the proof after the race.
        libraries: Names of the libraries that take part.
        rng: For placements and orders.
        unrest: Looks for what is left running.
        begin: Told whose turn it is, between slices.
    """

    def __init__(
        self,
        case: Case,
        reference: Reference,
        again: Reference,
        libraries: Sequence[str],
        rng: np.random.Generator,
        unrest: Unrest,
        begin: Begin,
    ) -> None:
        self.case = case
        self.shared = SharedInputs(
            reference.inputs, {"numpy", *(BACKENDS[name].host.name for name in libraries)}, case.device, rng
        )
        self.reference = reference
        self.again = again
        self.rng = rng
        self.unrest = unrest
        self.ready: list[Ready] = []
        self._tell = begin
        self._current: Ready | None = None
        compute = control()
        for name in YARDSTICKS:  # the canary is the very same call, so that any difference is the harness's
            self._enter(None, compute, compute, Outcome(name, "numpy", "ok", error=0.0, tolerance=0.0))
        self.bandwidth = Bandwidth(case, self.shared.arrays["numpy"])
        for name, move, least in self.bandwidth.yardsticks():
            self._enter(None, move, move, Outcome(name, "numpy", "ok", error=0.0, tolerance=0.0, least_bytes=least))

    def prepare(self, kernel: Kernel) -> Outcome:
        """Build, call once and prove; the outcome is `ok` (without times yet), `wrong` or `failed`.

        Raises:
            WorkerUnusable: It ran out of memory.
        """
        self._tell(kernel)
        with environment.undisturbed():
            outcome = self._prepared(kernel)
        self._begin(None)
        return outcome

    def race(self, seconds: float) -> list[Outcome]:
        """Time everything that is ready; gives the outcomes of what failed at it, and is out of the race.

        Raises:
            WorkerUnusable: A kernel ran out of memory.
        """
        with environment.undisturbed():
            failed, share = [], seconds / 4 / len(self.ready)
            for ready in self.ready:
                failed += self._attempt(partial(warm_up, ready.entrant, share))
            until = perf_counter() + seconds
            while out := self._attempt(lambda: self._race(until)):
                failed += out
        return failed

    def conclude(self) -> Iterator[Outcome]:
        """Prove everything that was timed again, on fresh data, and give the outcomes.

        Raises:
            WorkerUnusable: A kernel ran out of memory.
        """
        moved = {
            ready.outcome.kernel: float(np.quantile(ready.entrant.slices, 0.25))
            for ready in self.ready
            if ready.kernel is None
        }
        for ready in self.ready:
            self._begin(ready)
            with environment.undisturbed():
                outcome = self._conclude(ready)
            self._begin(None)
            limit = self.bandwidth.limit(outcome.kernel, moved) if ready.kernel else None
            yield replace(outcome, limit_seconds=limit)

    def require_usable(self) -> None:
        """Raise WorkerUnusable for what some kernel did to all and which shows only afterwards."""
        if self.shared.changed():
            raise WorkerUnusable("wrong", "it changed its inputs while it was timed")
        if self.unrest.left():
            raise WorkerUnusable("failed", "it left something running that keeps computing")

    def _prepared(self, kernel: Kernel) -> Outcome:
        blank = Outcome(kernel.key, kernel.backend.name, "ok")
        try:
            started = perf_counter()
            compute = kernel.build(self.case.problem)
            result = kernel.backend.wait(compute(*self.shared.arrays[kernel.backend.host.name]))
            first = perf_counter() - started
            proof = prove(kernel, compute, self.case, self.shared.inputs, self.reference)
            variants = list(self._variants(kernel, result))
            self._convert(kernel.backend.host, result)
        except Disagreement as disagreement:
            return replace(blank, status="wrong", reason=str(disagreement))
        except BaseException as fault:  # a kernel may raise anything, and the run goes on
            return replace(blank, status="failed", reason=reason(fault))
        proven = replace(blank, error=proof.error, tolerance=proof.tolerance, seconds_first=first)
        for name, options in variants:
            call = self._call(kernel.backend.host, compute, options)
            self._enter(kernel, compute, call, replace(proven, kernel=name))
        return proven

    def _enter(self, kernel: Kernel | None, compute: Compute, call: Callable[[], object], outcome: Outcome) -> None:
        racer = Racer(outcome.kernel, call, lambda: self._begin(ready))
        ready = Ready(kernel, compute, racer, outcome)
        self.ready.append(ready)

    def _race(self, until: float) -> None:
        race([ready.entrant for ready in self.ready], until - perf_counter(), self._renew, self.rng)

    def _attempt(self, do: Callable[[], object]) -> list[Outcome]:
        """Nothing, or the outcome of the one whose turn it was when `do` failed."""
        failed = []
        try:
            do()
        except BaseException as fault:  # as above
            out = self._current
            if out is None:
                raise  # the harness's own
            failed = [Outcome(out.outcome.kernel, out.outcome.backend, "failed", reason(fault))]
            self.ready = [ready for ready in self.ready if ready is not out]
        self._begin(None)
        return failed

    def _begin(self, ready: Ready | None) -> None:
        self._current = ready
        self._tell(ready.kernel if ready else None)

    def _renew(self) -> None:
        self._begin(None)
        self.shared.renew()

    def _variants(self, kernel: Kernel, result: Any) -> Iterator[tuple[str, dict[str, Any]]]:
        yield kernel.key, {}
        if kernel.out:
            out = kernel.backend.put(each(np.empty_like, kernel.backend.get(result)), self.case.device)
            yield kernel.key + OUT, {"out": out}

    def _call(self, backend: Backend, compute: Compute, options: dict[str, Any]) -> Callable[[], object]:
        arrays, name, wait = self.shared.arrays, backend.name, backend.wait
        if not backend.eager(self.case.device):
            return lambda: wait(compute(*arrays[name], **options))
        if options:
            return lambda: compute(*arrays[name], **options)
        return lambda: compute(*arrays[name])

    def _convert(self, backend: Backend, result: Any) -> None:
        """Time, on its own, what a caller with numpy arrays pays to use this library."""
        name = CONVERT + backend.name
        if backend.name == "numpy" or any(ready.entrant.name == name for ready in self.ready):
            return
        arrays, device = self.shared.arrays, self.case.device

        def convert() -> None:
            backend.wait(backend.put(arrays["numpy"], device))
            backend.get(result)

        there_and_back = backend.get(backend.put(self.shared.inputs, device))
        if all(map(partial(np.array_equal, equal_nan=True), leaves(there_and_back), leaves(self.shared.inputs))):
            self._enter(None, convert, convert, Outcome(name, backend.name, "ok", error=0.0, tolerance=0.0))

    def _conclude(self, ready: Ready) -> Outcome:
        proof = self._again(ready)
        if isinstance(proof, str):
            return replace(Outcome(ready.outcome.kernel, ready.outcome.backend, "wrong"), reason=proof)
        slices = np.array(ready.entrant.slices)
        low, middle, high = np.quantile(slices, (0.25, 0.5, 0.75))
        return replace(
            ready.outcome,
            reason=ready.entrant.note,
            error=max(ready.outcome.error or 0.0, proof.error),
            rounds=len(slices),
            iterations=ready.entrant.iterations,
            seconds_median=float(middle),
            seconds_min=float(slices.min()),
            seconds_q25=float(low),
            seconds_q75=float(high),
        )

    def _again(self, ready: Ready) -> Proof | str:
        if ready.kernel is None:
            return Proof(0.0, 0.0)
        try:
            return prove(ready.kernel, ready.compute, self.case, self.again.inputs, self.again)
        except BaseException as fault:  # whatever it is: proven before, not after
            return f"after timing, on fresh inputs: {reason(fault)}"
