"""Raise an exception on signals that ask a run to stop, so that what it has started is ended on the way out."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class Stopped(KeyboardInterrupt):
    """A signal asked the run to stop.

    Attributes:
        code: Exit code as shells have it: 130 for Ctrl-C, 143 for SIGTERM.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.code = 128 + number


_waiting: list[int] | None = None


@contextmanager
def signals_deferred() -> Iterator[None]:
    """Let signals of `stop_on_signals` wait, so that what is done within is done as a whole or not begun."""
    global _waiting
    came: list[int] = []
    _waiting = came
    try:
        yield
    finally:
        _waiting = None
    if came:
        raise Stopped(came[0])


def _disregard(number: int, frame: FrameType | None) -> None:
    """Do nothing: Python complains of one that is to be ignored when it has come already."""


@contextmanager
def stop_on_signals() -> Iterator[None]:
    """Raise Stopped within at the first of the signals; more of them do not disturb the way out.

    Signals that are ignored, as under nohup, stay so. Python gives handlers to the main thread only.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    mine = [number for number, handler in before.items() if handler is not signal.SIG_IGN]

    def stop(number: int, frame: FrameType | None) -> None:
        for each in mine:
            signal.signal(each, _disregard)
        if _waiting is not None:
            _waiting.append(number)
            return
        raise Stopped(number)

    for number in mine:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in mine:
            signal.signal(number, before[number])
