"""Several cores: chunks of a batch in Python's own threads, while the compiled code holds no lock.

numba's own parallel loops end the process when two threads enter them at once (workqueue) or after a fork (OpenMP),
and OpenMP's threads spin between calls; these sleep.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numba


def numba_threads() -> int:
    """Return the threads that a call may use: NUMBA_NUM_THREADS, or what numba.set_num_threads said."""
    _start_numba()
    return int(numba.get_num_threads())


@lru_cache(maxsize=1)
def _start_numba() -> None:
    """Start numba's threads, which its first question does, and leave torch as many as it has.

    Both may use one OpenMP library, and what numba tells it counts for torch too.
    """
    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch else None
    numba.get_num_threads()
    if torch and torch.get_num_threads() != before:
        torch.set_num_threads(before)


def run_each(work: Callable[[int], object], chunks: Iterable[int], threads: int) -> None:
    """Call `work` for each chunk, in this thread and up to `threads - 1` others.

    Args:
        work: Called with a chunk's number.
        chunks: Their numbers.
        threads: Most threads, at least 1.
    """
    left = iter(list(chunks))  # a list's iterator gives each item to one thread

    def loop() -> None:
        for chunk in left:
            work(chunk)

    helpers = [_pool().submit(loop) for _ in range(threads - 1)]
    try:
        loop()
    finally:
        for helper in helpers:
            if not helper.cancel():  # it has begun
                helper.result()


@lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="gradkernels")


os.register_at_fork(after_in_child=_pool.cache_clear)  # a fork copies no threads
