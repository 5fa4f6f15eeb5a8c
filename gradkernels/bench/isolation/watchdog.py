"""The watchdog of a worker process: raises when it has made no progress for longer than it may."""

from __future__ import annotations

import time

from gradkernels.bench.isolation.errors import WorkerDied
from gradkernels.bench.isolation.heartbeat import HARNESS, Heartbeat
from gradkernels.bench.isolation.limits import ProcessLimits


class Watchdog:
    """Watches the heartbeat of one worker.

    Args:
        heartbeat: Of the worker.
        limits: How long a kernel, and the harness itself, may take between two beats.
    """

    def __init__(self, heartbeat: Heartbeat, limits: ProcessLimits) -> None:
        self._heartbeat = heartbeat
        self._limits = limits
        self.restart()

    def restart(self) -> None:
        """Count time from now on, since the worker has just got something to do."""
        self._beat = self._heartbeat.last()
        self._since = time.monotonic()

    def check(self) -> None:
        """Raise WorkerDied, with status `timeout`, when one beat has lasted too long."""
        beat, now = self._heartbeat.last(), time.monotonic()
        if beat != self._beat:
            self._beat, self._since = beat, now
        elif beat.kernel == HARNESS and now - self._since > self._limits.harness_seconds:
            raise WorkerDied("timeout", f"the process came no further for {self._limits.harness_seconds:g} s", beat)
        elif beat.kernel != HARNESS and now - self._since > self._limits.timeout:
            raise WorkerDied("timeout", f"it took longer than --timeout {self._limits.timeout:g} s", beat)
