"""Saving in a thread, while what comes next is computed: a disk may take a tenth of a second for each second's rows."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from time import monotonic
from typing import Any


class BackgroundSaves:
    """Saves one after the other in a thread of their own, each begun at least so many seconds after the one before.

    Args:
        seconds: Between the beginnings of two.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds, self._begun = seconds, monotonic()
        self._thread = ThreadPoolExecutor(1, "gradkernels-save")
        self._running: Future[None] | None = None

    def __enter__(self) -> BackgroundSaves:
        """Return itself."""
        return self

    def __exit__(self, *error: Any) -> None:
        """Wait for what is being saved."""
        self._thread.shutdown()

    def due(self) -> bool:
        """Tell whether it is time for the next one; none waits for another."""
        idle = self._running is None or self._running.done() or not self._seconds
        return idle and monotonic() - self._begun >= self._seconds

    def begin(self, save: Callable[[], None]) -> None:
        """Begin a save; raise what went wrong in the one before."""
        self._wait()
        self._begun, self._running = monotonic(), self._thread.submit(save)

    def end(self, save: Callable[[], None]) -> None:
        """Save once more, behind the one before, and return when it is done; raise what went wrong in either.

        A system tells once that it lost what was written, and then writes the rest as if nothing had been.
        """
        self._wait()
        save()

    def _wait(self) -> None:
        """Wait for a save; raise what went wrong in it, each time that it is waited for."""
        if self._running is not None:
            self._running.result()
