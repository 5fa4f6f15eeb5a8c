"""The parent's side of a child process: start it, follow its events, and say what became of it.

The child is the leader of a process group, which ends with it: nothing that a kernel forks stays behind.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import gradkernels
from gradkernels.bench.isolation.errors import describe
from gradkernels.bench.isolation.heartbeat import HARNESS, Heartbeat, Turn, nameless, page
from gradkernels.bench.isolation.process import Process, end, ended, obituary
from gradkernels.bench.run.order import Orders

TICK_SECONDS = 0.25
HARNESS_SECONDS = 300.0
"""Patience with the harness's own work in a child: loading libraries, drawing data, computing the reference."""

MOST_CHUNK_BYTES = 2**20
MOST_LINE_BYTES = 2**20
KEPT_ERROR_BYTES = 2**16

ROOT = Path(gradkernels.__file__).resolve().parents[1]

BOOT = """
import json, sys
root, *path = json.loads(sys.argv.pop())
sys.path[:] = [root, *sys.path, *path]
from gradkernels.bench.run.worker import main
sys.path[:] = path
main()
"""
"""This very gradkernels, whatever lies in the current folder; then, for problems and kernels, whatever
the caller can import.
"""

KILLED = "the process was ended by SIGKILL"
RUBBISH = "it wrote into the pipe that its process reports through"

Event = dict[str, Any]
KEYS = {
    "outcome": {"case", "kernel", "status"},
    "peak": {"case", "kernel", "peak_bytes"},
    "spoilt": {"status", "reason"},
    "end": set(),
}
"""The events, and what each has at least."""


class WorkerDied(Exception):
    """The child ended or hung before its work was done, or is not fit to go on.

    Attributes:
        status: `failed`, `wrong` or `timeout`, for the row of whatever it was doing.
        reason: What became of it.
        turn: Whose turn it was.
    """

    def __init__(self, status: str, reason: str, turn: Turn | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.turn = turn or Turn()


def follow(
    orders: Orders,
    environment: Mapping[str, str],
    timeout: float,
    hear: Callable[[Event], None],
    inherit: Sequence[int] = (),
) -> None:
    """Start a child with `orders`, and end it when it is done, lost, or `hear` raises.

    Args:
        orders: What it has to do.
        environment: Its environment variables.
        timeout: Seconds that a turn of one kernel may take.
        hear: Called with each event as it comes.
        inherit: File descriptors that it needs.

    Raises:
        WorkerDied: It crashed, hung or sent what is no event; comes after the events that it still sent.
    """
    with nameless(orders.dumps().encode()) as text, page() as shared:
        turns = Heartbeat(shared.fileno())
        with _child(shared.fileno(), text, environment, inherit) as child:
            said = bytearray()
            for line in _lines(child, said, _Patience(turns, timeout)):
                event = _decoded(line, turns)
                if event["event"] == "end":
                    return
                if event["event"] == "spoilt":
                    raise WorkerDied(event["status"], event["reason"], turns.read())
                _told(event, hear, turns)
        raise WorkerDied("failed", obituary(child.returncode, bytes(said)), turns.read())


@contextmanager
def _child(shared: int, orders: IO[bytes], environment: Mapping[str, str], inherit: Sequence[int]) -> Iterator[Process]:
    child = subprocess.Popen(
        [sys.executable, "-P", "-c", BOOT, str(shared), str(os.getpid()), json.dumps([*map(str, (ROOT, *sys.path))])],
        stdin=orders,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=dict(environment),
        pass_fds=(shared, *inherit),
        # A group of its own also keeps Ctrl-C for the parent, which ends the child in its own time.
        start_new_session=True,
    )
    try:
        yield child
    finally:
        end(child)


class _Patience:
    """Called now and then; raises WorkerDied when one turn has lasted too long."""

    def __init__(self, turns: Heartbeat, timeout: float) -> None:
        self._turns = turns
        self._timeout = timeout
        self._turn = turns.read()
        self._since = time.monotonic()

    def __call__(self) -> None:
        turn, now = self._turns.read(), time.monotonic()
        if turn != self._turn:
            self._turn, self._since = turn, now
        elif turn.kernel == HARNESS and now - self._since > HARNESS_SECONDS:
            raise WorkerDied("timeout", f"the process came no further for {HARNESS_SECONDS:g} s", turn)
        elif turn.kernel != HARNESS and now - self._since > self._timeout:
            raise WorkerDied("timeout", f"it took longer than --timeout {self._timeout:g} s", turn)


def _lines(child: Process, said: bytearray, patience: Callable[[], None]) -> Iterator[bytes]:
    """Whole lines until the child has ended; the last of what it prints elsewhere is kept in `said`.

    Its pipes may stay open in processes that a kernel has started, so that their end says nothing.
    """
    assert child.stdout is not None
    assert child.stderr is not None
    rest = b""
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)
        selector.register(child.stderr, selectors.EVENT_READ)
        alive = True
        while alive:
            alive = not ended(child)  # once more after its end: for what it still said
            for key, _ in selector.select(TICK_SECONDS if alive else 0):
                chunk = os.read(key.fd, MOST_CHUNK_BYTES)
                if not chunk:
                    selector.unregister(key.fileobj)
                elif key.fileobj is child.stderr:
                    said[:] = (said + chunk)[-KEPT_ERROR_BYTES:]
                else:
                    *lines, rest = (rest + chunk)[-MOST_LINE_BYTES:].split(b"\n")
                    yield from lines
            if alive:
                patience()


def _decoded(line: bytes, turns: Heartbeat) -> Event:
    with suppress(ValueError, TypeError, AttributeError, LookupError, RecursionError):
        event: Event = json.loads(line)
        if event.keys() >= KEYS[event["event"]]:
            return event
    raise WorkerDied("failed", RUBBISH, turns.read())


def _told(event: Event, hear: Callable[[Event], None], turns: Heartbeat) -> None:
    try:
        hear(event)
    except (TypeError, ValueError, LookupError) as fault:
        raise WorkerDied("failed", f"{RUBBISH}: {describe(fault)}", turns.read()) from fault
