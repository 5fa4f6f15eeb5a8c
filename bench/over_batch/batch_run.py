"""The supervisor of `python bench/over_batch`: one process after another for each model, rows as they come."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from batch_orders import AtWork, CellDone, Orders, Subject, reports

from gradkernels.bench.isolation.errors import WorkerDied
from gradkernels.bench.isolation.signals import signals_deferred
from gradkernels.bench.results.metadata import run_facts
from gradkernels.bench.run.messages import PeakMeasured
from gradkernels.coordinates import Coordinates
from gradkernels.key import BATCH
from gradkernels.record import Measurement, Record, Status


@dataclass
class Run:
    """A run into one results file.

    Attributes:
        file: A `ResultsFile`, held.
        orders: What is the same for all processes; model, threads, what and cells of each job are put in.
        pass_: Number of the pass.
        patience: Seconds that a kernel may take for its first call and proof, or for one slice.
        tell: Called with each line of progress.
        records: Rows of the file.
        peaks: Bytes by model, threads, n, quantity and kernel.
        facts: Columns that are the same in all rows.
        subject: What the process at work measures.
        left: What was not measured, and why.
    """

    file: Any
    orders: Orders
    pass_: int
    patience: float
    tell: Callable[[str], object]
    records: list[Record] = field(default_factory=list)
    peaks: dict[Any, int | None] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=run_facts)
    subject: Subject | None = None
    left: list[str] = field(default_factory=list)

    def __post_init__(self):
        self.records = self.file.read()

    def go(self, jobs, until):
        """Do each job in its share of the time; what is left out has no row and comes with the next run."""
        todo = [(job, cells) for job in jobs if (cells := self.missing(job))]
        for position, (job, cells) in enumerate(todo):
            left = sum(one.weight for one, _ in todo[position:])
            share = max(0.0, until - time.monotonic()) * job.weight / left
            if not share:
                self.put_off(job, [cell_name(cell) for cell in cells], "the time is over")
                continue
            self.tell(f"{job.what} of {job.model}, {job.threads} threads: {len(cells)} cells in {share:.0f} s")
            self.do(job, replace(self.orders, model=job.model, threads=job.threads, what=job.what, cells=cells,
                                 deadline=math.inf if job.what == "memory" else time.monotonic() + share))  # fmt: skip

    def missing(self, job):
        """Cells without a row of their plain batch."""
        mine = (job.label, job.threads, self.orders.device, self.pass_, BATCH)
        done = {(row.case.n, row.case.quantity) for row in self.records
                if (model_of(row), row.case.threads, row.case.device, row.pass_, row.kernel) == mine}  # fmt: skip
        return tuple(cell for cell in self.orders.cells if cell not in done)

    def do(self, job, orders):
        """Start processes until every cell is done or given up."""
        left = {}
        while orders.cells:
            state = {"at": AtWork(-1, ""), "done": set(), "left": left}
            try:
                for message in reports(orders, self.patience):
                    self.hear(job, orders, state, message)
                break
            except WorkerDied as death:
                orders = self.blame(job, orders, state, death)
        if left:
            self.put_off(job, left, next(iter(left.values())))

    def put_off(self, job, names, reason):
        """Note what is not measured now, and say so."""
        self.left.append(f"{job.what} of {job.model}, {job.threads} threads: {'; '.join(names)}: {reason}")
        self.tell(f"  left out: {'; '.join(names)}: {reason}")

    def hear(self, job, orders, state, message):
        """Take a report."""
        if isinstance(message, Subject):
            self.subject = message
        elif isinstance(message, AtWork):
            state["at"] = message
        elif isinstance(message, CellDone):
            state["done"].add(message.cell)
            if message.left_out:
                state["left"][cell_name(orders.cells[message.cell])] = message.left_out
        elif isinstance(message, PeakMeasured):
            self.peaks[job.label, job.threads, *orders.cells[message.case], message.kernel] = message.peak_bytes
        else:
            self.write(job, orders.cells[message.case], message.measurement)

    def blame(self, job, orders, state, death):
        """Say what ended a process, and return what is left to do without it."""
        at = state["at"]
        if at.cell < 0:  # it has not begun, and would not the next time
            self.put_off(job, ["all"], f"{death.status} at the start: {death.reason}")
            return replace(orders, cells=())
        self.tell(f"  {death.status}: {cell_name(orders.cells[at.cell])}, {at.kernel or 'all'}: {death.reason}")
        left = tuple(cell for position, cell in enumerate(orders.cells) if position not in state["done"])
        n, quantity = orders.cells[at.cell]
        if at.kernel:
            skip = (n, quantity, at.kernel, death.status, f"at n = {n}: {death.reason}")
            return replace(orders, cells=left, skip=(*orders.skip, skip))
        if job.what != "memory":
            self.write(job, (n, quantity), Measurement(BATCH, "torch", Status(death.status), death.reason))
        return replace(orders, cells=tuple(cell for cell in left if cell != (n, quantity)))

    def write(self, job, cell, measurement):
        """Append a row, with the peak that was seen."""
        n, quantity = cell
        peak = self.peaks.get((job.label, job.threads, n, quantity, measurement.kernel))
        if measurement.status == Status.ok and peak is not None:
            measurement = replace(measurement, peak_bytes=peak)
        case = Coordinates(f"{self.subject.problem}/{job.label}", quantity, n, self.subject.features, "float32", "C",
                           self.orders.device, job.threads)  # fmt: skip
        row = Record(**self.facts, case=case, parameters=self.subject.parameters, seed=0, pass_=self.pass_,
                     measurement=measurement)  # fmt: skip
        with signals_deferred():
            self.file.append(row)
            self.records.append(row)


def cell_name(cell):
    """Name a cell: `n = 16 norms`."""
    return "n = {} {}".format(*cell)


def model_of(row):
    """The model of a row."""
    return row.case.problem.rpartition("/")[2]
