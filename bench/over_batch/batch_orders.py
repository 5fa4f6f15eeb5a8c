"""What `python bench/over_batch` and its measuring processes say to each other, and which kernels take part."""

from __future__ import annotations

from dataclasses import dataclass

import gradkernels as gk
from gradkernels.bench.isolation.environment import child_environment, memory_environment
from gradkernels.bench.isolation.limits import ProcessLimits, most_bytes
from gradkernels.bench.isolation.messages import Finished
from gradkernels.bench.isolation.program import Program
from gradkernels.bench.isolation.supervisor import Supervisor
from gradkernels.bench.run.messages import KernelMeasured, PeakMeasured
from gradkernels.key import Key

QUANTITIES = ("per_sample", "norms", "clipped_sum", "gradient")
OURS = ("torch.hooks", "torch.recorded", "torch.reweighted", "torch.autograd")
PEERS = ("opacus.*", "backpack.*", "torch.vmap")
JAX = ("mlp", "transformer")
"""Models that are written for JAX as well."""

Cell = tuple[int, str]
"""Number of samples and quantity."""


@dataclass(frozen=True)
class Orders:
    """What one process has to do for one model.

    Attributes:
        model: Its name.
        threads: Of each kernel.
        device: `cpu` or `cuda`.
        what: `time`, `memory`, or `jax`: time of JAX's kernels.
        cells: What to measure, in this order.
        skip: Kernels that ended a process: n from which on they are left out, quantity, key, and status and reason
            for their rows.
        also: Globs of more kernels of ours.
        seconds: For the turns of a cell, at least.
        deadline: On the system's monotonic clock: no cell is begun that would end after it.
        most_bytes: Rows that are larger are not measured.
    """

    model: str
    threads: int
    device: str
    what: str
    cells: tuple[Cell, ...]
    skip: tuple[tuple[int, str, str, str, str], ...]
    also: tuple[str, ...]
    seconds: float
    deadline: float
    most_bytes: int

    def skipped(self, n, kernel):
        """Status and reason of a kernel that ended a process at this size or a smaller one; None of the others."""
        return next(((status, reason) for least, quantity, key, status, reason in self.skip
                     if n >= least and (quantity, key) == (kernel.quantity.name, kernel.key)), None)  # fmt: skip

    def ours(self, problem, quantity):
        """Kernels of this library that take part: none of which compiles, unless it is asked for."""
        return chosen(problem, quantity, (*OURS, *self.also))


@dataclass(frozen=True)
class Subject:
    """What a process measures: columns of its rows."""

    problem: str
    features: int
    parameters: int


@dataclass(frozen=True)
class AtWork:
    """A kernel is at work on a cell, given by its position, from now on; none if the key is empty."""

    cell: int
    kernel: str


@dataclass(frozen=True)
class CellDone:
    """Everything of a cell has been reported; or it is left out, and why."""

    cell: int
    left_out: str


def chosen(problem, quantity, patterns):
    """Kernels that a pattern means; those composed of rows for a gradient are nobody's way."""
    return [kernel for kernel in gk.kernels(problem, quantity)
            if any(Key.parse(kernel.key).matches(pattern) for pattern in patterns)
            and not (kernel.composed and quantity == "gradient")]  # fmt: skip


REPORTS = (Subject, AtWork, CellDone, PeakMeasured, KernelMeasured, Finished)


def reports(orders, patience):
    """Start a process and yield what it reports.

    Raises:
        WorkerDied: It ended or hung before its work was done.
    """
    variables = child_environment(orders.threads) | (memory_environment() if orders.what == "memory" else {})
    if orders.what == "jax":  # float32 as its users have it; threads of torch's pool do not spin while JAX computes
        variables |= {"JAX_ENABLE_X64": "0", "OMP_WAIT_POLICY": "passive"}
    most = most_bytes() if orders.device == "cpu" else None  # CUDA reserves more than there is
    program = Program("batch_cell:main", variables, ProcessLimits(patience, most, 3 * patience))
    with Supervisor() as supervisor:
        worker = supervisor.start(program)
        worker.send(orders)
        while not isinstance(message := worker.receive(*REPORTS), Finished):
            yield message
