"""The file of wisdom, held against other processes while it is read, merged and replaced.

The lock is the system's, on a file beside it that stays: it ends with the process that holds it, however that ends.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from errno import ENOLCK, ENOSYS, ENOTSUP, ETIMEDOUT
from pathlib import Path

LONGEST_WAIT = 60.0
"""Seconds that a process waits for those that save before it."""

LONGEST_PAUSE = 0.005
"""Seconds between two attempts at most; a save takes a few milliseconds."""


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold a file that may not be there yet, as no other process or thread does meanwhile.

    Raises:
        OSError: It cannot be held: there is no right to, no lock on this file system, or another process does not end.
    """
    file = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o666)
    try:
        _lock(file)
        try:
            yield
        finally:
            _unlock(file)
    finally:
        os.close(file)


def _lock(file: int) -> None:
    until = time.monotonic() + LONGEST_WAIT
    while not _try(file):
        if time.monotonic() > until:
            raise OSError(ETIMEDOUT, f"another process has been saving to it for {LONGEST_WAIT:g} s")
        time.sleep(random.uniform(0, LONGEST_PAUSE))  # so that those who wait do not keep step


def _try(file: int) -> bool:
    try:
        import fcntl  # which not every system has
    except ModuleNotFoundError:
        raise OSError(ENOSYS, "this system has no lock that ends with the process") from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as fault:
        if fault.errno in (ENOLCK, ENOTSUP, ENOSYS):
            raise OSError(fault.errno, "its file system has no locks, without which a save could be lost") from None
        raise
    return True


def _unlock(file: int) -> None:
    import fcntl

    with suppress(OSError):
        fcntl.flock(file, fcntl.LOCK_UN)  # a process forked meanwhile has the file open too
