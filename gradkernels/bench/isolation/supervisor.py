"""The supervisor of worker processes: start them, talk with them, end those that hang, and say how they ended.

Each worker leads a process group, which ends with it: nothing that a kernel forks stays behind. While one worker is
awaited the pipes of all are emptied, so that none of them waits for its supervisor.
"""

from __future__ import annotations

import os
import selectors
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import IO, Any

from gradkernels.bench.isolation.errors import WorkerDied, describe_fault
from gradkernels.bench.isolation.heartbeat import Heartbeat, heartbeat_file
from gradkernels.bench.isolation.messages import Unusable, decode, encode
from gradkernels.bench.isolation.process import describe_end, end, ended
from gradkernels.bench.isolation.program import Program
from gradkernels.bench.isolation.watchdog import Watchdog

TICK_SECONDS = 0.25
CLOSED_TICK_SECONDS = 0.01
MOST_CHUNK_BYTES = 2**20
MOST_LINE_BYTES = 2**20
KEPT_ERROR_BYTES = 2**16

KILLED = "the process was ended by SIGKILL"
FORGED = "it wrote into the pipe that its process reports through"


class Supervisor:
    """Starts workers and listens to them; a context manager that ends them all."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._workers: list[WorkerProcess] = []

    def __enter__(self) -> Supervisor:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.end()
        self._selector.close()

    def start(self, program: Program) -> WorkerProcess:
        """Start a worker.

        Raises:
            OSError: There is no room for its heartbeat, or the system starts no process.
        """
        worker = WorkerProcess(program, self._selector)
        self._workers.append(worker)
        return worker


class WorkerProcess:
    """A running worker, as its supervisor sees it.

    Args:
        program: What it runs.
        selector: Of its supervisor, who reads all that its workers write.
    """

    def __init__(self, program: Program, selector: selectors.BaseSelector) -> None:
        with heartbeat_file() as page:
            self._heartbeat = Heartbeat(page.fileno())
            self._process = program.start(page.fileno())
        self._watchdog = Watchdog(self._heartbeat, program.limits)
        self._selector = selector
        self._outbox, self._errors, self._rest = bytearray(), bytearray(), b""
        self._lines: deque[bytes] = deque()
        self.alive = True
        assert self._process.stdin is not None
        os.set_blocking(self._process.stdin.fileno(), False)
        self._listen(self._process.stdout, selectors.EVENT_READ, self._read_messages)
        self._listen(self._process.stderr, selectors.EVENT_READ, self._read_errors)

    def send(self, message: Any) -> None:
        """Send an order; if the worker is gone, that shows when its answer is awaited."""
        if self.alive:
            if not self._outbox:
                self._listen(self._process.stdin, selectors.EVENT_WRITE, self._write)
            self._outbox += encode(message)
            self._watchdog.restart()
            _pump(self._selector, 0)

    def receive(self, *kinds: type) -> Any:
        """Wait for the worker's next message, which is of one of these classes.

        Raises:
            WorkerDied: It ended or hung, is not fit to go on, or a kernel wrote into its pipe; it is ended by then.
        """
        while not self._lines:
            running = self.alive and not ended(self._process)  # asked first: what it said before its end is read
            _pump(self._selector, self._tick() if running else 0)
            if self._lines:
                break
            if not running:
                raise self._died("failed", describe_end(self.end(), bytes(self._errors)))
            self._check()
        try:
            message: Any = decode(self._lines.popleft(), (*kinds, Unusable))
        except ValueError:
            raise self.forged() from None
        if isinstance(message, Unusable):
            raise self._died(message.status, message.reason)
        return message

    def forged(self, fault: Exception | None = None) -> WorkerDied:
        """End the worker, because a message cannot be its own; return what to raise."""
        return self._died("failed", FORGED + (f": {describe_fault(fault)}" if fault else ""))

    def end(self) -> int:
        """End the worker, if it lives, and all that it started; return its exit code."""
        if self.alive:
            self.alive = False
            for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
                self._forget(pipe)
        return end(self._process)

    def _check(self) -> None:
        try:
            self._watchdog.check()
        except WorkerDied:
            self.end()
            raise

    def _died(self, status: str, reason: str) -> WorkerDied:
        self.end()
        return WorkerDied(status, reason, self._heartbeat.last())

    def _tick(self) -> float:
        """Return how long to wait for pipes: not long when they are closed, for then it is about to end."""
        return TICK_SECONDS if self._process.stdout in self._selector.get_map() else CLOSED_TICK_SECONDS

    def _listen(self, pipe: IO[bytes] | None, event: int, do: Callable[[int], None]) -> None:
        assert pipe is not None
        self._selector.register(pipe, event, do)

    def _forget(self, pipe: IO[bytes] | None) -> None:
        with suppress(KeyError):
            self._selector.unregister(pipe)  # type: ignore[arg-type]

    def _read_messages(self, descriptor: int) -> None:
        chunk = os.read(descriptor, MOST_CHUNK_BYTES)
        if not chunk:
            self._forget(self._process.stdout)
        *lines, self._rest = (self._rest + chunk)[-MOST_LINE_BYTES:].split(b"\n")
        self._lines.extend(lines)

    def _read_errors(self, descriptor: int) -> None:
        chunk = os.read(descriptor, MOST_CHUNK_BYTES)
        if not chunk:
            self._forget(self._process.stderr)
        self._errors[:] = (self._errors + chunk)[-KEPT_ERROR_BYTES:]

    def _write(self, descriptor: int) -> None:
        try:
            del self._outbox[: os.write(descriptor, self._outbox)]
        except BrokenPipeError:
            self._outbox.clear()
        except BlockingIOError:
            return
        if not self._outbox:
            self._forget(self._process.stdin)


def _pump(selector: selectors.BaseSelector, seconds: float) -> None:
    """Read and write whatever pipes are ready; wait for the first of them at most so long."""
    for key, _ in selector.select(seconds):
        key.data(key.fd)
