"""A worker's side of the connection with its supervisor: receive orders, send messages, beat."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any, BinaryIO

from gradkernels.bench.isolation import environment
from gradkernels.bench.isolation.errors import WorkerUnusable, failure_reason
from gradkernels.bench.isolation.heartbeat import HARNESS, Heartbeat
from gradkernels.bench.isolation.messages import Finished, Unusable, decode, encode

CLOSED = 70
"""Exit code of a worker whose pipe a kernel has closed."""

EXHAUSTED = 71
"""Exit code of a worker that has no memory left to say so."""


class Connection:
    """Orders in, messages and heartbeat out; checked to be this process's own whenever it is used.

    Args:
        orders: From the supervisor.
        pipe: To the supervisor.
        heartbeat: The page that the supervisor reads.
    """

    def __init__(self, orders: BinaryIO, pipe: BinaryIO, heartbeat: Heartbeat) -> None:
        self._orders = orders
        self._pipe = pipe
        self._heartbeat = heartbeat
        self._process = os.getpid()
        self._identity = _identity(pipe.fileno())

    def beat(self, case: int, kernel: int = HARNESS) -> None:
        """Say that from now on a kernel, by default the harness, is at work on a case; both by their positions."""
        self._require_sound()
        self._heartbeat.beat(case, kernel)

    def send(self, message: Any) -> None:
        """Send a message to the supervisor."""
        self._require_sound()
        try:
            self._pipe.write(encode(message))
            self._pipe.flush()
        except BrokenPipeError:  # nobody is left to measure for
            os._exit(0)
        except MemoryError:
            os._exit(EXHAUSTED)

    def receive(self, *kinds: type) -> Any:
        """Wait for the next order, which is of one of these classes; None when there are no more."""
        line = self._orders.readline()
        return decode(line, kinds) if line else None

    def _require_sound(self) -> None:
        """End this process if it is a copy that a kernel forked, or if its pipe is no longer the supervisor's."""
        if os.getpid() != self._process:
            os._exit(0)
        if _identity(self._pipe.fileno()) != self._identity:
            os._exit(CLOSED)


def begin(start: dict[str, Any]) -> None:
    """Do what a worker was started for, and say how it ended; called by `supervisor.BOOT`.

    Args:
        start: `target`, a function that is called with the Connection; `path` for imports, where that is not what it
            is already; `supervisor`, a process number; `heartbeat`, a file descriptor; `max_bytes` or None.
    """
    environment.die_with_parent(start["supervisor"])
    module, _, function = start["target"].partition(":")
    target = getattr(importlib.import_module(module), function)
    sys.path[:] = start["path"] or sys.path
    connection = Connection(environment.private_input(), environment.private_output(), Heartbeat(start["heartbeat"]))
    os.close(start["heartbeat"])
    if start["max_bytes"] is not None:
        environment.limit_memory(start["max_bytes"])
    try:
        _call(target, connection)
    except WorkerUnusable as unusable:
        connection.send(Unusable(unusable.status, unusable.reason))
    else:
        connection.send(Finished())


def _call(target: Any, connection: Connection) -> None:
    try:
        target(connection)
    except WorkerUnusable:
        raise
    except Exception as fault:
        failure_reason(fault)  # raises WorkerUnusable where the harness itself finds no memory
        raise


def _identity(descriptor: int) -> tuple[int, int] | None:
    try:
        state = os.fstat(descriptor)
    except OSError:
        return None
    return state.st_dev, state.st_ino
