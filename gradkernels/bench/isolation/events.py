"""A child's way to its parent: events down a pipe, and whose turn it is in a page of memory."""

from __future__ import annotations

import json
import os
from typing import Any, TextIO

from gradkernels.bench.isolation.heartbeat import HARNESS, Heartbeat

CLOSED = 70
"""Exit code of a child whose pipe a kernel has closed."""

EXHAUSTED = 71
"""Exit code of a child that has no memory left to say so."""


class Channel:
    """Both ways, and the checks that what uses them is this process, and what it writes into its pipe.

    Args:
        pipe: To the parent.
        turns: The page that it reads.
    """

    def __init__(self, pipe: TextIO, turns: Heartbeat) -> None:
        self._pipe = pipe
        self._turns = turns
        self._process = os.getpid()
        self._identity = _identity(pipe.fileno())

    def turn(self, case: int, kernel: int = HARNESS) -> None:
        """Say whose turn it is from now on."""
        self._require_sound()
        self._turns.take(case, kernel)

    def report(self, event: str, **values: Any) -> None:
        """Send an event."""
        self._require_sound()
        try:
            self._pipe.write(json.dumps({"event": event, **values}) + "\n")
            self._pipe.flush()
        except BrokenPipeError:  # nobody is left to measure for
            os._exit(0)
        except MemoryError:
            os._exit(EXHAUSTED)

    def _require_sound(self) -> None:
        """End this process if it is a copy that a kernel forked, or if its pipe is no longer the one to the parent."""
        if os.getpid() != self._process:
            os._exit(0)
        if _identity(self._pipe.fileno()) != self._identity:
            os._exit(CLOSED)


def _identity(descriptor: int) -> tuple[int, int] | None:
    try:
        state = os.fstat(descriptor)
    except OSError:
        return None
    return state.st_dev, state.st_ino
