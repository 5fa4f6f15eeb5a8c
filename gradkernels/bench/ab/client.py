"""The caller's side of a worker on a revision: start it, give it orders, and receive its answers."""

from __future__ import annotations

import os
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import gradkernels
from gradkernels.bench.ab.messages import Refused
from gradkernels.bench.isolation import environment
from gradkernels.bench.isolation.errors import WorkerDied
from gradkernels.bench.isolation.limits import ProcessLimits, most_bytes
from gradkernels.bench.isolation.program import Program
from gradkernels.bench.isolation.supervisor import Supervisor, WorkerProcess
from gradkernels.record import Status

KERNEL_WORKER = "gradkernels.bench.ab.worker:main"
BENCHMARK_WORKER = "gradkernels.bench.ab.benchmarks.worker:main"
SILENCE_SECONDS = 120.0
"""How long a worker may take to answer."""

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Side:
    """One revision, ready to be imported.

    Attributes:
        name: As the person wrote it.
        root: Folder that its packages are imported from.
        paths: What goes before it on PYTHONPATH.
        commit: Short hash, with `+` if there are changes.
        remarks: What of the revision is not there, in sentences.
        max_bytes: Memory that a process on it may take; None for four fifths of the machine's, where it is limited.
        project: Folder of its pyproject.toml.
    """

    name: str
    root: Path
    paths: tuple[Path, ...] = ()
    commit: str = ""
    remarks: tuple[str, ...] = ()
    max_bytes: int | None = None
    project: Path = Path()


def here() -> Side:
    """Return the gradkernels that runs this."""
    return Side("here", Path(gradkernels.__file__).resolve().parents[1])


class WorkerClient:
    """A running worker on a revision.

    Attributes:
        side: The revision.
        alive: Whether it takes more orders.
    """

    def __init__(self, side: Side, process: WorkerProcess) -> None:
        self.side = side
        self.alive = True
        self._process = process

    def send(self, order: Any) -> None:
        """Give an order, whose answer must be received before the next one; see `messages`."""
        self._process.send(order)

    def receive(self, kind: type[Answer]) -> Answer:
        """Wait for the answer to the last order.

        Raises:
            WorkerDied: It died or refused, or gave no answer for two minutes and was ended.
        """
        try:
            answer: Answer | Refused = self._process.receive(kind, Refused)
        except WorkerDied:
            self.alive = False
            raise
        if isinstance(answer, Refused):
            self.alive = False
            raise WorkerDied(Status.failed, answer.reason)
        return answer

    def require(self, kind: type[Answer]) -> Answer:
        """Wait for the answer to the last order, if the revision could be loaded.

        Raises:
            ValueError: It could not; says which side it is, and why.
        """
        try:
            return self.receive(kind)
        except WorkerDied as death:
            raise ValueError(
                "; ".join([f"{self.side.name} cannot take part: {death.reason}", *self.side.remarks])
            ) from None


def start_worker(
    supervisor: Supervisor,
    side: Side,
    threads: int = 1,
    device: str = "cpu",
    pipes: tuple[int, ...] = (),
    target: str = KERNEL_WORKER,
) -> WorkerClient:
    """Start a worker on a revision: this harness, and the library that the revision has.

    Args:
        supervisor: Ends it.
        side: The revision.
        threads: Limit of every thread pool.
        device: Where it computes; memory is limited on the CPU only, as CUDA maps the device's memory too.
        pipes: File descriptors that it inherits.
        target: What it runs, as in a Program.

    Raises:
        ValueError: This system has no pipes that a process could inherit.
    """
    if os.name != "posix":
        raise ValueError("a duel needs pipes between processes, which this system lacks; use Linux, macOS or WSL")
    variables = {
        **environment.child_environment(threads),
        **environment.steady_environment(),
        "PYTHONPATH": _path(side),
    }
    max_bytes = side.max_bytes or (most_bytes() if device == "cpu" else None)
    limits = ProcessLimits(max_bytes=max_bytes, harness_seconds=SILENCE_SECONDS)
    program = Program(target, variables, limits, as_caller=False, folder=side.root, descriptors=pipes)
    return WorkerClient(side, supervisor.start(program))


@contextmanager
def worker_on(side: Side, target: str = KERNEL_WORKER) -> Iterator[WorkerClient]:
    """Start a worker on a revision; it is ended on leaving.

    Raises:
        ValueError: This system has no pipes that a process could inherit.
    """
    with Supervisor() as supervisor:
        yield start_worker(supervisor, side, target=target)


def _path(side: Side) -> str:
    """Return the revision first, then the caller's own path, then this gradkernels for kernels of other packages."""
    inherited = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    folders = [*map(str, (*side.paths, side.root)), *filter(None, inherited), str(here().root)]
    # Where everything is installed comes last anyway; first, it could hide the standard library.
    return os.pathsep.join(folder for folder in folders if folder != sysconfig.get_path("purelib"))
