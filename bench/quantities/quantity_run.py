"""The supervisor of `python bench/quantities`: one process after another for each model, rows as they come."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from batch_orders import AtWork, CellDone
from quantity_asks import ASKS
from quantity_models import REGRESSIONS, sizes_of
from quantity_orders import MEMORY, TIME, Orders, Size, WayFound, reports
from quantity_rows import BATCH, REFUSED, Found, Row, append_row, read_rows

from gradkernels.bench.isolation.errors import WorkerDied
from gradkernels.bench.isolation.signals import signals_deferred
from gradkernels.bench.results.metadata import run_facts

MEMORY_ASKS = ("inner K=1", "gram", "project factored", "clipped_sum by=parameter")
LEAST_MEMORY = 64
"""Peak memory is measured of these, of as many samples or more."""

MEMORY_SECONDS = 60.0
"""Of a model, at most, and a fifth of its share."""


@dataclass
class Run:
    """A run into one results file.

    Attributes:
        path: Of the file.
        orders: What is the same for all processes; model, what and cells of each are put in.
        patience: Seconds that a way may take for its first call and proof, or for one slice.
        tell: Called with each line of progress.
        rows: Of the file.
        peaks: Bytes by cell and way, of the model at work.
        parameters: Of the model at work.
        facts: Columns that are the same in all rows.
        left: What was not measured, and why.
    """

    path: Path
    orders: Orders
    patience: float
    tell: Callable[[str], object]
    rows: list[Row] = field(default_factory=list)
    peaks: dict[Any, int] = field(default_factory=dict)
    parameters: int = 0
    facts: dict[str, str] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)

    def __post_init__(self):
        self.rows = read_rows(self.path)
        found = run_facts()
        self.facts = {name: str(found[name]) for name in ("started", "machine", "versions", "commit")}

    def go(self, models, asks, sizes, until):
        """Measure each model in its share of the time; what is left out has no row and comes with the next run.

        Args:
            models: Names.
            asks: Labels.
            sizes: Numbers of samples; none for all.
            until: On the system's monotonic clock.
        """
        todo = [(model, cells) for model in models if (cells := self.missing(model, asks, sizes))]
        for position, (model, cells) in enumerate(todo):
            share = max(0.0, until - time.monotonic()) / (len(todo) - position)
            self.tell(f"{model}: {len(cells)} cells in {share:.0f} s")
            self.measure(model, cells, share)

    def missing(self, model, asks, sizes):
        """Cells of a model without a row of their plain pass, in the order in which they are measured."""
        done = {(row.n, row.label) for row in self.rows
                if (row.model, row.threads, row.found.kernel) == (model, self.orders.threads, BATCH)}  # fmt: skip
        regression = [label for label in asks if ASKS[label].regression == (model in REGRESSIONS)]
        wanted = ((n, label) for n in sizes_of(model, sizes) for label in regression)
        return tuple(cell for cell in wanted if cell not in done)

    def measure(self, model, cells, share):
        """Measure the memory of some cells, and the times of all."""
        started = time.monotonic()
        weighed = tuple(cell for cell in cells if cell[0] >= LEAST_MEMORY and cell[1] in MEMORY_ASKS)
        orders, self.peaks = replace(self.orders, model=model), {}
        if weighed:
            within = started + min(share / 5, MEMORY_SECONDS)
            self.follow(replace(orders, what=MEMORY, cells=weighed, deadline=within))
        self.follow(replace(orders, what=TIME, cells=cells, deadline=started + share))

    def follow(self, orders):
        """Start processes until every cell is done or given up."""
        left = {}
        while orders.cells:
            state = {"at": AtWork(-1, ""), "done": set(), "left": left}
            try:
                for message in reports(orders, self.patience):
                    self.hear(orders, state, message)
                break
            except WorkerDied as death:
                orders = self.blame(orders, state, death)
        if left:
            reason = f"{orders.what} of {orders.model}: {'; '.join(left)}: {next(iter(left.values()))}"
            self.left.append(reason)
            self.tell(f"  left out: {reason}")

    def hear(self, orders, state, message):
        """Take a report.

        Args:
            orders: Of the process.
            state: What is known of it.
            message: What it says.
        """
        if isinstance(message, Size):
            self.parameters = message.parameters
        elif isinstance(message, AtWork):
            state["at"] = message
        elif isinstance(message, CellDone):
            state["done"].add(message.cell)
            if message.left_out:
                state["left"][cell_name(orders.cells[message.cell])] = message.left_out
        elif isinstance(message, WayFound):
            self.write(orders, orders.cells[message.cell], message.found)
        else:
            self.peaks[orders.cells[message.cell], message.kernel] = message.peak_bytes

    def blame(self, orders, state, death):
        """Say what ended a process, and return what is left to do without it.

        Args:
            orders: Of the process.
            state: What is known of it.
            death: How it ended.
        """
        at = state["at"]
        if at.cell < 0:
            state["left"]["all"] = f"{death.status} at the start: {death.reason}"
            return replace(orders, cells=())
        cell = n, label = orders.cells[at.cell]
        self.tell(f"  {death.status}: {cell_name(cell)}, {at.kernel or 'all'}: {death.reason}")
        left = tuple(one for position, one in enumerate(orders.cells) if position not in state["done"])
        if at.kernel and orders.what == TIME:
            why = f"it ended its process at n = {n} ({death.status}): {death.reason}"
            return replace(orders, cells=left, skip=(*orders.skip, (n, label, at.kernel, why)))
        if orders.what == TIME:
            self.write(orders, cell, Found(BATCH, "", f"{REFUSED}: {death.status}: {death.reason}"))
        return replace(orders, cells=tuple(one for one in left if one != cell))

    def write(self, orders, cell, found):
        """Append a row, with the peak that was seen."""
        n, label = cell
        ask, peak, of_batch = ASKS[label], self.peaks.get((cell, found.kernel)), self.peaks.get((cell, BATCH))
        memory = peak / of_batch if peak is not None and of_batch else None
        row = Row(orders.model, self.parameters, ask.quantity, ask.options, n, orders.threads, found, peak, memory,
                  self.facts)  # fmt: skip
        with signals_deferred():
            append_row(self.path, row)
            self.rows.append(row)


def cell_name(cell):
    """Name a cell: `n = 16 inner K=8`."""
    return "n = {} {}".format(*cell)
