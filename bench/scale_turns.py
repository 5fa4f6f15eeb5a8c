"""Passes that take turns in one process, and the ratio of what they take."""

from __future__ import annotations

import time
from statistics import median


def seconds(lazy):
    """Return what a pass takes: of a lazy result of dask, or of a function."""
    start = time.perf_counter()
    lazy() if callable(lazy) and not hasattr(lazy, "dask") else lazy.compute()
    return time.perf_counter() - start


def in_turns(passes, **lazy):
    """Return seconds by name, each measured so often, in turns, after one that does not count."""
    for one in lazy.values():
        seconds(one)
    found = {name: [] for name in lazy}
    for _ in range(passes):
        for name, one in lazy.items():
            found[name].append(seconds(one))
    return found


def ratio(one, other):
    """Return the median of the times of one over those of the other, turn by turn."""
    return median(a / b for a, b in zip(one, other, strict=True))
