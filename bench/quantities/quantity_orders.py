"""What `python bench/quantities` and its measuring processes say to each other."""

from __future__ import annotations

from dataclasses import dataclass

from batch_orders import AtWork, CellDone
from quantity_rows import Found

from gradkernels.bench.isolation.environment import child_environment, memory_environment
from gradkernels.bench.isolation.limits import ProcessLimits, most_bytes
from gradkernels.bench.isolation.messages import Finished
from gradkernels.bench.isolation.program import Program
from gradkernels.bench.isolation.supervisor import Supervisor

Cell = tuple[int, str]
"""Number of samples, and label of what is asked."""

TIME, MEMORY = "time", "memory"


@dataclass(frozen=True)
class Orders:
    """What one process has to do for one model.

    Attributes:
        model: Its name.
        threads: Of each way.
        what: TIME or MEMORY.
        cells: What to measure, in this order.
        skip: Ways that ended a process: label, name and why, and n from which on they are left out.
        rounds: Turns of a cell that are aimed at.
        deadline: On the system's monotonic clock: no cell is begun that would end after it.
        most_bytes: Cells whose rows are larger are left out.
    """

    model: str
    threads: int
    what: str
    cells: tuple[Cell, ...]
    skip: tuple[tuple[int, str, str, str], ...]
    rounds: int
    deadline: float
    most_bytes: int

    def skipped(self, cell, name):
        """Return why a way is left out of a cell; nothing for the others."""
        n, label = cell
        return next((why for least, of, way, why in self.skip if n >= least and (of, way) == (label, name)), "")


@dataclass(frozen=True)
class Size:
    """How many parameters the model has."""

    parameters: int


@dataclass(frozen=True)
class WayFound:
    """A row of a cell, given by its position."""

    cell: int
    found: Found


@dataclass(frozen=True)
class WayPeak:
    """Peak memory of a way of a cell, given by its position."""

    cell: int
    kernel: str
    peak_bytes: int


REPORTS = (Size, AtWork, CellDone, WayFound, WayPeak, Finished)


def reports(orders, patience):
    """Start a process and yield what it reports.

    Args:
        orders: What it has to do.
        patience: Seconds that one way may take for its first call and proof.

    Raises:
        WorkerDied: It ended or hung before its work was done.
    """
    variables = child_environment(orders.threads) | (memory_environment() if orders.what == MEMORY else {})
    program = Program("quantity_cell:main", variables, ProcessLimits(patience, most_bytes(), 3 * patience))
    with Supervisor() as supervisor:
        worker = supervisor.start(program)
        worker.send(orders)
        while not isinstance(message := worker.receive(*REPORTS), Finished):
            yield message
