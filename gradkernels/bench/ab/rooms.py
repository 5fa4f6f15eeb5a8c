"""Temporary folders of `ab` that do not outlive it for long: what a killed one leaves, the next one removes."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PREFIX = "gradkernels-ab-"
_NAME = re.compile(rf"{_PREFIX}(\d+)-.*")


@contextmanager
def room() -> Iterator[Path]:
    """Make a folder, which is locked while this process lives and removed on leaving; remove those of the dead."""
    for other in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        if abandoned(other):
            shutil.rmtree(other, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f"{_PREFIX}{os.getpid()}-") as folder:
        lock = os.open(folder, os.O_RDONLY)
        try:
            with suppress(OSError):  # a file system without locks does without
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield Path(folder)
        finally:
            os.close(lock)


def abandoned(folder: Path) -> bool:
    """Tell whether a folder was made for a process that is gone.

    Its number may be taken by another, or be one of another container that shares the folder: then the lock tells.
    """
    found = _NAME.fullmatch(folder.name)
    return found is not None and not _alive(int(found[1])) and not _locked(folder)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _locked(folder: Path) -> bool:
    try:
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return False
    except OSError:
        return True  # somebody else's
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return True  # there are no locks to tell by
    finally:
        os.close(lock)
    return False
