"""What a kernel leaves behind at work: threads and processes that go on computing when nobody asked them to.

They would be timed along with every other kernel.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from pathlib import Path

TASKS = Path("/proc/self/task")
REST_SECONDS = 0.1  # in less, a busy machine may keep the core from what would compute
MOST_RESTS = 6  # pools spin for a while after their last task
BUSY = 0.1  # of a core


class BackgroundLoad:
    """The threads and children of this process that may stay: those there at first, and those that were quiet once."""

    def __init__(self) -> None:
        self._known = _living()

    def still_running(self) -> bool:
        """Return whether any that are new keep computing while this thread does nothing."""
        living = _living()
        if living <= self._known:
            return False
        if all(_computes_at_rest() for _ in range(MOST_RESTS)):
            return True
        self._known = living
        return False


def _living() -> set[int]:
    with suppress(OSError):
        return {*map(int, os.listdir(TASKS)), *_children()}
    return {thread.ident or 0 for thread in threading.enumerate()}


def _children() -> list[int]:
    return [int(child) for task in TASKS.iterdir() for child in (task / "children").read_text().split()]


def _computes_at_rest() -> bool:
    before, started = _cpu_seconds() + _waited_seconds(), time.perf_counter()
    time.sleep(REST_SECONDS)
    taken = _cpu_seconds() + _waited_seconds() - before
    # A wait is counted when it ends: on a busy machine one may last longer than the rest.
    return taken > BUSY * (time.perf_counter() - started) or _any_ready()


def _any_ready() -> bool:
    """Return whether another thread, or a child, computes or waits for a core (state R of proc_pid_stat(5))."""
    mine = str(threading.get_native_id())
    with suppress(OSError):
        tasks = [TASKS / thread for thread in os.listdir(TASKS) if thread != mine]
        tasks += [task for child in _children() for task in Path(f"/proc/{child}/task").glob("*")]
        return any(map(_is_ready, tasks))
    return False


def _is_ready(task: Path) -> bool:
    with suppress(OSError):  # it has ended meanwhile
        return (task / "stat").read_text().rpartition(")")[2].split()[0] == "R"
    return False


def _waited_seconds() -> float:
    """Return how long other threads and children were ready to compute and had no core (sched-stats of Linux)."""
    mine = str(threading.get_native_id())
    with suppress(OSError, ValueError, IndexError):
        files = [TASKS / thread / "schedstat" for thread in os.listdir(TASKS) if thread != mine]
        files += [Path(f"/proc/{child}/schedstat") for child in _children()]
        return sum(int(file.read_text().split()[1]) for file in files) * 1e-9
    return 0.0


def _cpu_seconds() -> float:
    """Return the processor time of this process and its children."""
    with suppress(OSError):
        return time.process_time() + sum(map(_child_seconds, _children()))
    return time.process_time()


def _child_seconds(process: int) -> float:
    """Read the clock of another process (clock_getcpuclockid(3)), which ends with it."""
    with suppress(OSError):
        return time.clock_gettime(~process << 3 | 2)
    return 0.0
