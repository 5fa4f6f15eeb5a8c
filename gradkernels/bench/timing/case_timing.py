"""One case in one pass: kernels are prepared one by one, timed in turns, and proven a second time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from time import perf_counter

import numpy as np

from gradkernels.backend import BACKENDS
from gradkernels.bench.isolation import environment
from gradkernels.bench.isolation.errors import WorkerUnusable, failure_reason
from gradkernels.bench.timing.background import BackgroundLoad
from gradkernels.bench.timing.bandwidth import Bandwidth
from gradkernels.bench.timing.preparation import prepared, yardsticks
from gradkernels.bench.timing.prepared_kernel import EXACT, PreparedKernel
from gradkernels.bench.timing.shared_inputs import SharedInputs
from gradkernels.bench.timing.slices import TimedCall, time_interleaved, warm_up
from gradkernels.case import Case
from gradkernels.check import Disagreement, Proof, Unprovable, prove
from gradkernels.check.reference import Reference
from gradkernels.kernel import Kernel
from gradkernels.record import Measurement, Status

BeginKernel = Callable[[Kernel | None], None]
"""Called with the kernel that is at work from now on; None for the harness itself."""


class CaseTiming:
    """The timing of one case: prepares kernels one by one, times them in turns, proves them again.

    What a kernel raises, `SystemExit` and the like too, ends its own part only; running out of memory ends the
    process.

    Args:
        case: What to compute.
        reference: Of the case's data, which it holds as numpy arrays.
        again: Of other data of the same shapes, for the proof after timing.
        libraries: Names of the libraries that take part.
        rng: For placements and orders.
        background: Looks for what is left running.
        begin: Called with the kernel that is at work, between slices.
    """

    def __init__(
        self,
        case: Case,
        reference: Reference,
        again: Reference,
        libraries: Sequence[str],
        rng: np.random.Generator,
        background: BackgroundLoad,
        begin: BeginKernel,
    ) -> None:
        self.case = case
        self.shared = SharedInputs(
            reference.inputs, {"numpy", *(BACKENDS[name].host.name for name in libraries)}, case.device, rng
        )
        self.reference = reference
        self.again = again
        self.rng = rng
        self.background = background
        self.bandwidth = Bandwidth(case, self.shared.arrays["numpy"])
        self.prepared = {one.timed.name: one for one in yardsticks(self.bandwidth)}
        self._tell = begin
        self._current: PreparedKernel | None = None
        self._strayed = False

    def prepare(self, kernel: Kernel) -> Measurement | None:
        """Build, call once and prove; return what was wrong, None if it can be timed.

        Raises:
            WorkerUnusable: It ran out of memory.
        """
        self._tell(kernel)
        with environment.preserved_process_state():
            refused = self._prepare(kernel)
        self._begin(None)
        return refused

    def time(self, seconds: float) -> list[Measurement]:
        """Time everything that is prepared; return the measurements of what failed at it, and is left out.

        Raises:
            WorkerUnusable: A kernel ran out of memory.
        """
        with environment.preserved_process_state():
            bound = environment.bound_cores()
            failed, share = [], seconds / 4 / len(self.prepared)
            for one in list(self.prepared.values()):
                failed += self._attempt(partial(warm_up, one.timed, share, self._before_slice))
            until = perf_counter() + seconds
            while out := self._attempt(lambda: self._time(until)):
                failed += out
            self._strayed = bool(environment.strayed(bound))
        return failed

    def conclude(self) -> Iterator[Measurement]:
        """Prove everything that was timed again, on fresh data, and give the measurements.

        Raises:
            WorkerUnusable: A kernel ran out of memory.
        """
        moved = {
            name: float(np.quantile(one.timed.slices, 0.25))
            for name, one in self.prepared.items()
            if one.kernel is None
        }
        for name, one in self.prepared.items():
            self._begin(one)
            with environment.preserved_process_state():
                proof = self._prove_again(one)
            self._begin(None)
            measurement = one.refused(Status.wrong, proof) if isinstance(proof, str) else one.measured(proof)
            yield replace(measurement, limit_seconds=self.bandwidth.limit(name, moved) if one.kernel else None)

    def require_usable(self) -> None:
        """Raise WorkerUnusable for what some kernel did to all and which shows only afterwards."""
        if self.shared.changed():
            raise WorkerUnusable(Status.wrong, "it changed its inputs while it was timed")
        if self._strayed:
            raise WorkerUnusable(Status.failed, "it changed the cores that its process may use")
        if self.background.still_running():
            raise WorkerUnusable(Status.failed, "it left something running that keeps computing")

    def _prepare(self, kernel: Kernel) -> Measurement | None:
        try:
            found = prepared(kernel, self.case, self.shared, self.reference, self.prepared)
        except Disagreement as disagreement:
            status = Status.failed if isinstance(disagreement, Unprovable) else Status.wrong
            return Measurement(kernel.key, kernel.backend.name, status, str(disagreement))
        except BaseException as fault:  # a kernel may raise anything, and the run goes on
            return Measurement(kernel.key, kernel.backend.name, Status.failed, failure_reason(fault))
        self.prepared |= {one.timed.name: one for one in found}
        return None

    def _time(self, until: float) -> None:
        calls = [one.timed for one in self.prepared.values()]
        time_interleaved(calls, until - perf_counter(), self._renew, self.rng, self._before_slice)

    def _attempt(self, do: Callable[[], object]) -> list[Measurement]:
        """Do something; return the measurement of whichever kernel was at work when it failed, nothing if none did."""
        failed = []
        try:
            do()
        except BaseException as fault:  # as above
            out = self._current
            if out is None:
                raise  # the harness's own
            failed = [out.refused(Status.failed, failure_reason(fault))]
            del self.prepared[out.timed.name]
        self._begin(None)
        return failed

    def _before_slice(self, timed: TimedCall) -> None:
        self._begin(self.prepared[timed.name])

    def _begin(self, one: PreparedKernel | None) -> None:
        self._current = one
        self._tell(one.kernel if one else None)

    def _renew(self) -> None:
        self._begin(None)
        self.shared.renew()

    def _prove_again(self, one: PreparedKernel) -> Proof | str:
        if one.kernel is None:
            return EXACT
        try:
            return prove(one.kernel, one.compute, self.case, self.again.inputs, self.again)
        except BaseException as fault:  # whatever it is: proven before, not after
            return f"after timing, on fresh inputs: {failure_reason(fault)}"
