"""A measuring process of `python bench/over_batch`: one model, every cell that is ordered, all ways in turns."""

from __future__ import annotations

import gc
import time
from dataclasses import replace

import numpy as np
from batch_models import MODELS
from batch_orders import PEERS, AtWork, CellDone, Orders, Subject, chosen
from batch_prepare import Preparation
from batch_race import race, yardsticks
from batch_truth import Truth

from gradkernels.backend import BACKENDS
from gradkernels.bench.isolation import environment
from gradkernels.bench.run.messages import KernelMeasured, PeakMeasured
from gradkernels.bench.timing.peak_memory import peak_bytes
from gradkernels.bench.timing.prepared_kernel import EXACT, PreparedKernel
from gradkernels.case import Case
from gradkernels.record import Measurement, Status

LIBRARIES = {"time": ("opacus", "backpack"), "memory": (), "jax": ("jax",)}
COST_IN_BATCHES = 90
"""Plain batches that take about as long as a cell, to tell whether one still fits into the time."""

PEAKS = 3
FAR_BEHIND = 3.0
"""A peer that took this many times as long as the best of them is not tried at the next size."""


def main(connection):
    """Follow the orders of `python bench/over_batch`."""
    if orders := connection.receive(Orders):
        MeasuringProcess(orders, connection).go()


class MeasuringProcess:
    """Measures cells of one model, and keeps what is built for it."""

    def __init__(self, orders, connection):
        self.orders, self.connection = orders, connection
        self.rng = np.random.default_rng()
        environment.limit_torch(orders.threads)
        if orders.device == "cpu":  # on CUDA the backward pass has a thread of its own
            environment.pin(orders.threads, self.rng)
        for library in LIBRARIES[orders.what]:
            BACKENDS[library].load()  # the time that it takes is no kernel's
        self.truth = Truth.of(MODELS[orders.model]().for_proof("float32", orders.device))
        problem = self.truth.problem
        self.connection.send(Subject(problem.name, problem.fixed_features, problem.size(1)))
        self.prepare = Preparation(self.truth, proving=orders.what != "memory")
        self.behind = {quantity: {} for _, quantity in orders.cells}
        self.batch_seconds = 0.0

    def go(self):
        """Measure cell by cell."""
        where = {"dtype": "float32", "device": self.orders.device, "threads": self.orders.threads}
        for position, (n, quantity) in enumerate(self.orders.cells):
            gc.freeze()
            self.position, self.case = position, Case(self.truth.problem, quantity, n, **where)
            left_out = self._unaffordable()
            if not left_out:
                self.arrays = BACKENDS["torch"].put(self.truth.inputs(n), self.orders.device)
                self.yardsticks = yardsticks(self.case, self.arrays)
                self._peaks() if self.orders.what == "memory" else self._times()
            self.connection.send(CellDone(position, left_out))

    def _unaffordable(self):
        n, rows = self.case.n, 4 * self.case.n * self.case.parameters
        if rows > self.orders.most_bytes:
            return f"its rows take {rows / 2**20:,.0f} MiB"
        predicted, left = COST_IN_BATCHES * self.batch_seconds * n, self.orders.deadline - time.monotonic()
        predicted += self.orders.seconds if self.orders.what != "memory" else 0.0
        return f"it would take about {predicted:.0f} s, and {max(left, 0):.0f} s are left" if predicted > left else ""

    def _times(self):
        """Report every kernel of a cell."""
        batch, quantity = self.yardsticks[0].timed, self.case.quantity.name
        self.batch_seconds = min(batch.clock(batch.call, 1) for _ in range(3)) / self.case.n
        ours, peers = self._kernels()
        found = {kernel.key: self._prepared(kernel) for kernel in (*ours, *peers)}
        ready = {key: one for key, one in found.items() if isinstance(one, PreparedKernel)}
        own, theirs = ([ready[kernel.key] for kernel in some if kernel.key in ready] for some in (ours, peers))
        self._tell("")
        seconds = race(own, theirs, self.yardsticks, self.orders.seconds, self.rng, self._beat)
        far = {key for key in seconds if seconds[key] > FAR_BEHIND * min(seconds.values())}
        self.behind[quantity][self.case.n] = self._behind() | far
        for one in found.values():
            # Looked at once more: what was timed still computes what was proven.
            self._report(self._measured(one) if isinstance(one, PreparedKernel) else one)
        for one in reversed(self.yardsticks):  # the batch last: a cell that has its row is complete
            self._report(self._with_peak(one.measured(EXACT), one))

    def _measured(self, one):
        return self._with_peak(self.prepare.measured(one, self.case), one)

    def _with_peak(self, measurement, one):
        """Add the peak on CUDA, where the allocator tells it; on the CPU it takes a process of its own."""
        if self.case.device == "cpu" or measurement.status != Status.ok:
            return measurement
        return replace(measurement, peak_bytes=peak_bytes(one.timed.call, self.case.device))

    def _kernels(self):
        """Our kernels, and those of others that are worth a try."""
        problem, quantity = self.case.problem, self.case.quantity.name
        if self.orders.what == "jax":
            from batch_jax import kernels

            return kernels(self.orders.model, quantity), []
        ours, behind = self.orders.ours(problem, quantity), self._behind()
        peers = [] if quantity == "gradient" else chosen(problem, quantity, PEERS)
        return ours, [kernel for kernel in peers if kernel not in ours and kernel.key not in behind]

    def _behind(self):
        """Peers that are not tried: at the next smaller size they were far behind the best, or not tried either."""
        known = self.behind[self.case.quantity.name]
        return known.get(max((n for n in known if n < self.case.n), default=0), set())

    def _prepared(self, kernel):
        """Return a kernel that can be timed, or its measurement."""
        self._tell(kernel.key)
        if skipped := self.orders.skipped(self.case.n, kernel):
            return Measurement(kernel.key, kernel.backend.name, Status(skipped[0]), skipped[1])
        return self.prepare(kernel, self.case, self.arrays)

    def _peaks(self):
        """Report peak memory of a plain batch and of our kernels."""
        for one in (self.yardsticks[0], *map(self._prepared, self.orders.ours(self.case.problem, self.case.quantity))):
            if isinstance(one, PreparedKernel):
                one.timed.call()
                seen = [peak_bytes(one.timed.call, self.orders.device) for _ in range(PEAKS)]
                if None not in seen:
                    self.connection.send(PeakMeasured(self.position, one.timed.name, min(seen)))

    def _report(self, measurement):
        self.connection.send(KernelMeasured(self.position, measurement))

    def _tell(self, key):
        self.connection.send(AtWork(self.position, key))
        self._beat()

    def _beat(self, *_):
        self.connection.beat(self.position, 0)
