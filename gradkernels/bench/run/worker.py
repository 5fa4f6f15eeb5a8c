"""A measuring process: one pass over the cases, which measures memory or time."""

from __future__ import annotations

import gc
import time
from collections import defaultdict
from dataclasses import replace

import numpy as np

from gradkernels.backend import BACKENDS
from gradkernels.bench.isolation import environment
from gradkernels.bench.isolation.worker_side import Connection
from gradkernels.bench.run.budget import Budget
from gradkernels.bench.run.case_reports import CaseReports, prepared_call
from gradkernels.bench.run.memory_pass import KnownSeconds, MemoryPass, clocked
from gradkernels.bench.run.messages import MEMORY_PASS, Orders
from gradkernels.bench.run.timing_pass import TimingPass
from gradkernels.bench.timing.prepared_kernel import libraries_of
from gradkernels.case import Case
from gradkernels.kernel import Kernel
from gradkernels.record import Measurement, Status

PROBE_SAMPLES = 1000


def main(connection: Connection) -> None:
    """Follow the orders of a session."""
    if orders := connection.receive(Orders):
        MeasuringWorker(orders, connection).go()


class MeasuringWorker:
    """Goes through the cases in ascending n, and knows from smaller sizes what a larger one will take."""

    def __init__(self, orders: Orders, connection: Connection) -> None:
        self._orders = orders
        self._connection = connection
        self._plan = plan = orders.plan
        self._budget = Budget(tuple(case.n for case in plan.cases), orders.allowance, orders.budget)
        self._positions = {key: position for position, key in enumerate(plan.kernels)}
        self._rng = np.random.default_rng([plan.seed, orders.pass_, time.time_ns()])
        self._pinned = environment.pin(plan.threads, self._rng)
        self._known: KnownSeconds = defaultdict(list)

    def go(self) -> None:
        """Load the libraries that are wanted, then measure what is wanted of every case."""
        wanted = [
            [kernel for kernel in self._plan.kernels_of(case) if self._orders.wants(index, kernel.key)]
            for index, case in enumerate(self._plan.cases)
        ]
        for library in libraries_of([kernel for todo in wanted for kernel in todo]):
            _load(library, self._plan.threads)
        if self._orders.pass_ == MEMORY_PASS:
            this_pass: MemoryPass | TimingPass = MemoryPass(self._plan, self._known)
        else:
            this_pass = TimingPass(self._plan, self._known, self._rng, self._pinned)
        for index, todo in enumerate(wanted):
            if todo:
                self._measure(index, todo, this_pass)

    def _measure(self, index: int, todo: list[Kernel], this_pass: MemoryPass | TimingPass) -> None:
        """Report a measurement of each kernel on the case at this position of the plan."""
        gc.freeze()  # what the libraries have loaded is no garbage, and looking through it takes 0.3 s a time
        started, case = time.monotonic(), self._plan.cases[index]
        until = started + self._budget.share(index, self._orders.deadline - started)
        reports = CaseReports(self._connection, index, self._positions)
        reports.begin(None)
        able = []
        for kernel in todo:
            if refusal := self._refusal(case, kernel, reports):
                reports.measured(refusal)
            else:
                able.append(kernel)
        if isinstance(this_pass, MemoryPass):
            this_pass.measure(case, able, reports)
        else:
            this_pass.measure(case, able, reports, until)

    def _refusal(self, case: Case, kernel: Kernel, reports: CaseReports) -> Measurement | None:
        """Return the measurement of a kernel that is not to be tried on a case; None if it is."""
        blank = Measurement(kernel.key, kernel.backend.name, Status.unsupported)
        if reasons := kernel.unsupported(case):
            return replace(blank, reason="; ".join(reasons))
        if kernel.loops and case.n > PROBE_SAMPLES and not self._known[kernel.key]:
            self._probe(replace(case, n=PROBE_SAMPLES), kernel, reports)
        if too_slow := self._budget.refusal(self._known[kernel.key], case.n, kernel.loops):
            return replace(blank, status=Status.timeout, reason=too_slow)
        return None

    def _probe(self, case: Case, kernel: Kernel, reports: CaseReports) -> None:
        """Time one call of a kernel of which nothing is known yet."""
        inputs = self._plan.inputs(case)

        def call() -> None:
            clocked(self._known, kernel, case.n, prepared_call(kernel, case, inputs))

        reports.attempt(kernel, call)


def _load(library: str, threads: int) -> None:
    """Import a library now: the time that it takes is no kernel's."""
    BACKENDS[library].load()
    if library == "torch" and BACKENDS[library].installed:
        environment.limit_torch(threads)
