"""The parent's side of a child process: start it, follow its events, and say what became of it."""

from __future__ import annotations

import json
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any

from gradkernels.bench.worker import Orders

Event = dict[str, Any]


class Lost(Exception):
    """The child ended or hung before its work was done.

    Attributes:
        status: `failed` or `timeout`, for the row of whatever it was doing.
        reason: What became of it.
    """

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


def events(orders: Orders, environment: Mapping[str, str], silence_seconds: float) -> Iterator[Event]:
    """Start a child with `orders` and yield its events as they come.

    Args:
        orders: What it has to do.
        environment: Its environment variables.
        silence_seconds: How long it may say nothing before it is taken for hung and killed.

    Raises:
        Lost: It crashed or hung; comes after the events it still sent.
    """
    with tempfile.TemporaryFile() as errors, _child(environment, errors) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(orders.dumps().encode())
        child.stdin.close()
        for line in _lines(child.stdout, silence_seconds):
            yield json.loads(line)
        if child.wait() != 0:
            raise Lost("failed", _obituary(child.returncode, errors))


@contextmanager
def _child(environment: Mapping[str, str], errors: IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "gradkernels.bench.worker"]
    child = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, env=dict(environment)
    )
    try:
        yield child
    finally:
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                pipe.close()


def _lines(pipe: IO[bytes], silence_seconds: float) -> Iterator[bytes]:
    """Whole lines until the end of the pipe; Lost after too long a silence."""
    rest = b""
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while selector.select(max(0.0, silence_seconds)):
            chunk = pipe.read1(65536)  # type: ignore[attr-defined]
            if not chunk:
                return
            *lines, rest = (rest + chunk).split(b"\n")
            yield from lines
    raise Lost("timeout", f"no sign of life for {silence_seconds:g} s, at {time.strftime('%H:%M:%S')}")


def _obituary(code: int, errors: IO[bytes]) -> str:
    if code < 0:
        return f"the process was ended by {signal.Signals(-code).name}"
    errors.seek(0)
    lines = errors.read().decode(errors="replace").strip().splitlines()
    return f"the process ended with code {code}: {lines[-1] if lines else 'it printed nothing'}"
