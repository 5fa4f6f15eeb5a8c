"""One thread at a time computes with a model, and none is in the midst of it where the process is forked.

A child has the memory of its parent and only the thread that forked: a lock that another one holds would never be
given back there, and a model whose parameters it has exchanged would keep the wrong ones. So a fork waits for the
computations that are going on, as that of Python's `logging` waits for lines that are being written.
"""

from __future__ import annotations

import os
import threading
import weakref
from time import monotonic
from typing import Any

LONGEST_FORK_WAIT = 60.0
"""Seconds that a fork waits; a computation that takes longer may itself be waiting for it."""

_LOCKS: weakref.WeakKeyDictionary[Any, threading.RLock] = weakref.WeakKeyDictionary()
_LOOKING = threading.Lock()
_waited_for: list[threading.RLock] = []


def lock_of(model: Any) -> threading.RLock:
    """Return the lock that whoever exchanges the model's parameters holds, one for all of its problems."""
    with _LOOKING:
        return _LOCKS.setdefault(model, threading.RLock())


def _wait() -> None:
    """Hold the locks of all models while the process is forked."""
    _LOOKING.acquire()
    end = monotonic() + LONGEST_FORK_WAIT
    _waited_for.extend(lock for lock in [*_LOCKS.values()] if lock.acquire(timeout=max(0.0, end - monotonic())))


def _go_on() -> None:
    while _waited_for:
        _waited_for.pop().release()
    _LOOKING.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_wait, after_in_parent=_go_on, after_in_child=_go_on)
