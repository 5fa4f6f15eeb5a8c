"""A measuring process: one pass over the cases, in which every kernel is proven, timed and proven again."""

from __future__ import annotations

import gc
import math
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import Any

import numpy as np

from gradkernels.backend import BACKENDS
from gradkernels.bench.isolation import environment
from gradkernels.bench.isolation.errors import WorkerUnusable, failure_reason
from gradkernels.bench.isolation.heartbeat import HARNESS, UNKNOWN
from gradkernels.bench.isolation.worker_side import Connection
from gradkernels.bench.run.messages import MEMORY_PASS, KernelMeasured, Orders, PeakMeasured
from gradkernels.bench.timing.background import BackgroundLoad
from gradkernels.bench.timing.case_timing import CaseTiming
from gradkernels.bench.timing.peak_memory import peak_bytes
from gradkernels.bench.timing.prepared_kernel import libraries_of
from gradkernels.case import Case
from gradkernels.check.reference import Reference
from gradkernels.kernel import Kernel
from gradkernels.problems import BlackBox
from gradkernels.record import Measurement, Status

CALLS = 8  # of a kernel in one case: first, proofs before and after, warm-up, three slices
PROBE_SAMPLES = 1000
LEAST_TIMING_SECONDS = 0.1
FAIR_SHARE = 0.3  # of a case's seconds, for one kernel


def main(connection: Connection) -> None:
    """Follow the orders of a session."""
    if orders := connection.receive(Orders):
        MeasuringWorker(orders, connection).go()


class MeasuringWorker:
    """Goes through the cases in ascending n, and knows from smaller sizes what a larger one will take."""

    def __init__(self, orders: Orders, connection: Connection) -> None:
        self.orders = orders
        self.connection = connection
        self.plan = plan = orders.plan
        self.positions = {key: position for position, key in enumerate(plan.kernels)}
        self.rng = np.random.default_rng([plan.seed, orders.pass_, time.time_ns()])
        self.pinned = environment.pin(plan.threads, self.rng)
        self.references: dict[tuple[int, int], Reference] = {}
        self.known: dict[str, list[tuple[int, float]]] = defaultdict(list)

    def go(self) -> None:
        """Load the libraries that are wanted, then do everything that is wanted of every case."""
        wanted = [
            [kernel for kernel in self.plan.kernels_of(case) if self.orders.wants(index, kernel.key)]
            for index, case in enumerate(self.plan.cases)
        ]
        for library in libraries_of([kernel for todo in wanted for kernel in todo]):
            self._load(library)
        self.background = BackgroundLoad()
        for index, todo in enumerate(wanted):
            if todo:
                self._do(index, self.plan.cases[index], todo)

    def _load(self, library: str) -> None:
        """Import a library now: the time that it takes is no kernel's."""
        BACKENDS[library].load()
        if library == "torch" and BACKENDS[library].installed:
            environment.limit_torch(self.plan.threads)

    def _do(self, index: int, case: Case, todo: list[Kernel]) -> None:
        """Everything about one case; reports a measurement for each kernel."""
        gc.freeze()  # what the libraries have loaded is no garbage, and looking through it takes 0.3 s a time
        started, share = time.monotonic(), self._share(index)
        self._begin(index, None)
        able = []
        for kernel in todo:
            if refusal := self._refusal(index, case, kernel):
                self._report(index, refusal)
            else:
                able.append(kernel)
        if self.orders.pass_ == MEMORY_PASS:
            self._measure_memory(index, case, able)
        else:
            self._time(index, case, able, started + share)

    def _time(self, index: int, case: Case, able: list[Kernel], until: float) -> None:
        started = time.monotonic()
        reference, again = self._reference(case), self._reference(case.fresh())
        begin = partial(self._begin, index)
        timing = CaseTiming(case, reference, again, libraries_of(able), self.rng, self.background, begin)
        for kernel in able:
            if refused := timing.prepare(kernel):
                self._report(index, refused)
        self._inspect(index, timing, able)
        now = time.monotonic()
        # The proofs after the timing take about as long as those before it.
        failed = timing.time(max(until - now - (now - started), LEAST_TIMING_SECONDS))
        self._inspect(index, timing, able)
        for found in chain(failed, timing.conclude()):
            if found.seconds_median:
                self.known[found.kernel].append((case.n, found.seconds_median))
            self._report(index, replace(found, reason="; ".join(filter(None, (found.reason, self.pinned)))))

    def _reference(self, case: Case) -> Reference:
        """The reference for a case; of a module it is dear, so that the quantities of one size share it."""
        if not isinstance(case.problem, BlackBox):
            return Reference(case.problem, *self.plan.inputs(case))
        key = (case.n, case.seed)
        if key not in self.references:
            self.references = {known: one for known, one in self.references.items() if known[0] == case.n}
            one = self.references[key] = Reference(case.problem, *self.plan.inputs(case))
            with np.errstate(all="ignore"):
                _ = one.gradient  # now, so that it counts as no kernel's time
        return self.references[key]

    def _inspect(self, index: int, timing: CaseTiming, able: list[Kernel]) -> None:
        """End this process if what is measured in it means nothing."""
        try:
            timing.require_usable()
        except WorkerUnusable:
            self.connection.beat(index, self.positions[able[0].key] if len(able) == 1 else UNKNOWN)
            raise

    def _share(self, index: int) -> float:
        """Seconds for a case: what is left of the pass, more of it for the larger sizes."""
        left = self.orders.deadline - time.monotonic()
        weights = [_weight(case) for case in self.plan.cases[index:]]
        return left * weights[0] / sum(weights)

    def _fair(self, case: Case) -> float:
        """Seconds that one kernel may take of a case in any pass."""
        total = sum(map(_weight, self.plan.cases))
        return FAIR_SHARE * self.orders.allowance * _weight(case) / total

    def _refusal(self, index: int, case: Case, kernel: Kernel) -> Measurement | None:
        blank = Measurement(kernel.key, kernel.backend.name, Status.unsupported)
        if reasons := kernel.unsupported(case):
            return replace(blank, reason="; ".join(reasons))
        if kernel.loops and case.n > PROBE_SAMPLES and not self.known[kernel.key]:
            self._probe(index, replace(case, n=PROBE_SAMPLES), kernel)
        known = self.known[kernel.key]
        call = predicted(known, case.n, kernel.loops)
        fair = self._fair(case)
        if CALLS * call <= fair:
            return None
        n, seconds = known[-1]
        why = (
            f"too slow for the budget: a call would take about {call:.2g} s ({seconds:.2g} s at n = {n}), and {CALLS} "
            f"calls do not fit the {fair:.2g} s that --budget {self.orders.budget} leaves one kernel per pass here"
        )
        return replace(blank, status=Status.timeout, reason=why)

    def _probe(self, index: int, case: Case, kernel: Kernel) -> None:
        """Time one call of a kernel of which nothing is known yet."""
        inputs = self.plan.inputs(case)
        self._try(index, kernel, lambda: self._clock(case, kernel, _called(kernel, case, inputs)))

    def _measure_memory(self, index: int, case: Case, able: list[Kernel]) -> None:
        inputs = self.plan.inputs(case)
        for kernel in able:
            self._try(index, kernel, partial(self._peak, index, case, kernel, inputs))

    def _peak(self, index: int, case: Case, kernel: Kernel, inputs: Any) -> None:
        call = _called(kernel, case, inputs)
        call()  # what is loaded and compiled once is not part of a call's peak
        peak = self._clock(case, kernel, partial(peak_bytes, call, case.device))
        self.connection.send(PeakMeasured(index, kernel.key, peak))

    def _clock(self, case: Case, kernel: Kernel, do: Callable[[], Any]) -> Any:
        started = time.perf_counter()
        result = do()
        self.known[kernel.key].append((case.n, time.perf_counter() - started))
        return result

    def _try(self, index: int, kernel: Kernel, do: Callable[[], object]) -> None:
        """Do what calls a kernel; what it raises shows again, and is told, when it is proven."""
        self._begin(index, kernel)
        try:
            with environment.preserved_process_state():
                do()
        except BaseException as fault:
            failure_reason(fault)
        self._begin(index, None)

    def _begin(self, index: int, kernel: Kernel | None) -> None:
        self.connection.beat(index, self.positions[kernel.key] if kernel else HARNESS)

    def _report(self, index: int, measurement: Measurement) -> None:
        self.connection.send(KernelMeasured(index, measurement))


def _weight(case: Case) -> float:
    return 1 + math.log10(case.n)


def _called(kernel: Kernel, case: Case, inputs: Any) -> Callable[[], Any]:
    """A call of `kernel` that ends when its result is there."""
    arrays = kernel.backend.put(inputs, case.device)
    compute, wait = kernel.build(case.problem), kernel.backend.wait
    return lambda: wait(compute(*arrays))


def predicted(known: list[tuple[int, float]], n: int, loops: bool) -> float:
    """Seconds that a call will take at n, from `(n, seconds)` at smaller sizes; 0 when nothing can be said.

    A Python loop is proportional to n; anything else is a fixed cost plus one per sample, through the last two.
    """
    if not known:
        return 0.0
    last, seconds = known[-1]
    if loops:
        return seconds * n / last
    before, less = known[-2] if len(known) > 1 else (0, seconds)
    return seconds + max(0.0, seconds - less) / (last - before) * (n - last)
