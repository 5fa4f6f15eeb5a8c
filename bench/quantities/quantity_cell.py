"""A measuring process of `python bench/quantities`: one model, every cell that is ordered, all ways in turns."""

from __future__ import annotations

import gc
import importlib
import time
import warnings
from functools import partial

import numpy as np
import peer_attribution  # noqa: F401  # each module lists its ways
import peer_private  # noqa: F401
import peer_statistics  # noqa: F401
import peer_torch  # noqa: F401
import peer_torchjd  # noqa: F401
from batch_orders import AtWork, CellDone
from batch_race import plain
from quantity_asks import ASKS, Draw
from quantity_models import truth_of
from quantity_orders import MEMORY, Orders, Size, WayFound, WayPeak
from quantity_rows import BATCH, MISSING, OK, REFUSED, WRONG, Found
from quantity_ways import DEFAULT, Mapped, Refused, Setting, own_ways, peers_of

import gradkernels as gk
from gradkernels.backend import BACKENDS
from gradkernels.bench.isolation import environment
from gradkernels.bench.isolation.errors import one_line
from gradkernels.bench.timing.peak_memory import peak_bytes
from gradkernels.bench.timing.slices import TimedCall, time_interleaved, warm_up
from gradkernels.check import Disagreement
from gradkernels.tree import leaves

COST_IN_BATCHES, FIXED_SECONDS = 60, 0.5
"""What a cell takes, about: plain passes, and seconds whatever n."""

SHORTEST, LONGEST = 0.15, 8.0
WARM_SECONDS = 0.1
SETTLING_CALLS, SETTLING_SECONDS = 200, 0.3
"""Calls that a call without `kernel=` has before its turns, at most, and what they may take: it is still choosing."""

LONG_CALL = 0.7
"""A way whose second and third call take as many seconds has the time of the third, and takes no turns."""

PEAKS = 2
EARLIER_CALLS = 5
"""Calls before peak memory is looked at: by then a call has chosen its kernel."""


def main(connection):
    """Follow the orders of `python bench/quantities`."""
    if orders := connection.receive(Orders):
        environment.limit_torch(orders.threads)
        environment.pin(orders.threads, np.random.default_rng())
        with gk.audit("off"):  # every result is held to the truth here, before and after it is timed
            measure(orders, connection)


def measure(orders, connection):
    """Measure cell by cell.

    Args:
        orders: What to do.
        connection: Whom to tell.
    """
    truth = truth_of(orders.model)
    theta, _, _ = truth.inputs(1)
    connection.send(Size(sum(part.size for part in leaves(theta))))
    passes, took = {}, {}
    for position, cell in enumerate(orders.cells):
        gc.freeze()
        left_out = _unaffordable(orders, truth, cell, passes, took)
        if not left_out:
            started, bench = time.monotonic(), CellBench(orders, truth, position, connection)
            passes[cell[0]] = bench.peaks() if orders.what == MEMORY else bench.times()
            took[cell[1]] = time.monotonic() - started
        connection.send(CellDone(position, left_out))


def _unaffordable(orders, truth, cell, passes, took):
    """Say why a cell is left out, if it is.

    Args:
        orders: Of the process.
        truth: Of the model.
        cell: Number of samples and label.
        passes: Seconds of a plain pass, by number of samples.
        took: Seconds of the last cell of each label.
    """
    n, label = cell
    rows = 4 * n * sum(part.size for part in leaves(truth.inputs(1)[0]))
    if rows > orders.most_bytes and not ASKS[label].regression:
        return f"its rows take {rows / 2**20:,.0f} MiB"
    per_sample = max((seconds / of for of, seconds in passes.items()), default=0.0)
    predicted = max(FIXED_SECONDS + COST_IN_BATCHES * passes.get(n, per_sample * n), took.get(label, 0.0))
    left = max(orders.deadline - time.monotonic(), 0.0)
    return f"it would take about {predicted:.0f} s, and {left:.0f} s are left" if predicted > left else ""


def settle(timed):
    """Call as often as a choice of kernels may need, within a share of a second."""
    until = time.monotonic() + SETTLING_SECONDS
    for _ in range(SETTLING_CALLS):
        if time.monotonic() > until:
            break
        timed.call()


class CellBench:
    """Times of one cell, or peaks of its memory.

    Args:
        orders: Of the process.
        truth: Of the model.
        position: Of the cell.
        connection: Whom to tell.
    """

    def __init__(self, orders, truth, position, connection):
        self.orders, self.truth, self.position, self.connection = orders, truth, position, connection
        self.cell = n, label = orders.cells[position]
        self.ask, problem = ASKS[label], truth.problem
        arrays = truth.inputs(n)
        theta, x, y = BACKENDS["torch"].put(arrays)
        if self.ask.regression:
            own, draw = arrays, Draw(n, theta, (x, y))
            gradient = gk.kernel("torch.autograd.gradient").build(problem)
            self.plain = partial(gradient, theta, x, y)
        else:
            own, draw = (None, x, y), Draw(n, problem.parameters(), (x, y), truth.lengths)
            self.plain = partial(plain, problem.model, problem.loss_fn, list(problem.parameters().values()), x, y)
        self.setting = Setting(problem, self.ask, *own, n, self.ask.draw(draw))
        self.ready, self.found = {}, {}

    def times(self):
        """Report every way, and last the plain pass; return its seconds."""
        ways = [*own_ways(self.truth.problem, self.ask), *peers_of(self.ask)]
        for way in ways:
            self._tell(way.name)
            self._prepare(way)
        self._tell("")
        batch = TimedCall(BATCH, self.plain)
        self._race([batch, *(timed for timed, _ in self.ready.values() if not timed.slices)])
        for way in ways:
            self.connection.send(WayFound(self.position, self._found(way, batch)))
        seconds = float(np.median(batch.slices))
        whole = Found(BATCH, "", OK, seconds, 1.0, 1.0, 1.0, len(batch.slices))
        self.connection.send(WayFound(self.position, whole))
        return seconds

    def peaks(self):
        """Report peak memory of the plain pass and of our ways; return the seconds of a plain pass."""
        ways = {way.name: partial(way.build, self.setting) for way in own_ways(self.truth.problem, self.ask)}
        for name, build in {BATCH: lambda: self.plain, **ways}.items():
            self._tell(name)
            try:
                call = build()
                for _ in range(EARLIER_CALLS):
                    call()
                seen = [peak_bytes(call) for _ in range(PEAKS)]
            except Exception:  # its row says why
                continue
            if None not in seen:
                self.connection.send(WayPeak(self.position, name, min(seen)))
        started = time.perf_counter()
        self.plain()
        return time.perf_counter() - started

    def _prepare(self, way):
        """Build, call and prove a way; note what can be timed, or why it cannot."""
        if way.missing:
            self.found[way.name] = f"{MISSING}: {way.package} is not installed"
        elif why := self.orders.skipped(self.cell, way.name):
            self.found[way.name] = f"{REFUSED}: {why}"
        else:
            try:
                with environment.preserved_process_state():
                    warnings.simplefilter("ignore")  # what a library says of itself
                    importlib.import_module(way.module)
                    call = way.build(self.setting)
                    error = self._error(way, call, call())
                    timed = TimedCall(way.name, call)
                    if (again := timed.clock(call, 1)) > LONG_CALL and (again := timed.clock(call, 1)) > LONG_CALL:
                        timed.slices.append(again)
                self.ready[way.name] = timed, error
            except Disagreement as disagreement:
                self.found[way.name] = f"{WRONG}: {one_line(str(disagreement))}"
            except Refused as refusal:
                self.found[way.name] = f"{REFUSED}: {one_line(str(refusal))}"
            except Exception as fault:
                self.found[way.name] = f"{REFUSED}: {type(fault).__name__}: {one_line(str(fault))}"

    def _error(self, way, call, result):
        """Worst error of a result.

        Args:
            way: Which.
            call: What it built.
            result: What the call returned.

        Raises:
            Disagreement: It is wrong.
        """
        if isinstance(call, Mapped):
            error = self.truth.mapped_error(self.setting.n, call.parts, result)
        else:
            of = self.truth.kept_products if way.projects else self.truth.error
            error = of(self.ask, self.setting.n, self.setting.options, result)
        if not error <= (allowed := self._allowed(way)):
            raise Disagreement(f"an entry is off by {error:.2g} of its scale, allowed {allowed:.2g}")
        return error

    def _allowed(self, way):
        return self.truth.distortion if way.projects else self.truth.tolerance

    def _race(self, calls):
        """Let all take turns for as many rounds as are wanted, within limits."""
        each = 0.0
        for timed in calls:
            if timed.name == DEFAULT:
                settle(timed)
            warm_up(timed, WARM_SECONDS, self._beat)
            each += timed.clock(timed.call, timed.iterations) * timed.iterations
        seconds = min(max(SHORTEST, self.orders.rounds * each), LONGEST)
        time_interleaved(calls, seconds, lambda: None, np.random.default_rng(), self._beat)

    def _found(self, way, batch):
        """Return the row of a way, whose result is looked at once more."""
        if way.name in self.found:
            return Found(way.name, "" if way.is_ours else way.version, self.found[way.name])
        timed, before = self.ready[way.name]
        try:
            result = timed.call()
            error = max(before, self._error(way, timed.call, result))
        except Disagreement as disagreement:
            return Found(way.name, way.version, f"{WRONG}: after timing: {one_line(str(disagreement))}")
        ratios = [one / plain for one, plain in zip(timed.slices, batch.slices, strict=False)]  # slow ones have fewer
        low, middle, high = (float(value) for value in np.quantile(ratios, (0.25, 0.5, 0.75)))
        peer, seconds = "" if way.is_ours else way.version, float(np.median(timed.slices))
        size = sum(part.nbytes for part in leaves(result))
        return Found(way.name, peer, OK, seconds, middle, low, high, len(ratios), error, self._allowed(way), size)

    def _tell(self, name):
        self.connection.send(AtWork(self.position, name))
        self._beat()

    def _beat(self, *_):
        self.connection.beat(self.position, 0)
