"""Two processes over one where nothing hands out their work, a bound of the machine, and the memory of several."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from statistics import median
from typing import Any

import psutil


def two_over_one(work: Callable[[range], Any], blocks: int, passes: int) -> float:
    """Return the time of one process over that of two, a median of passes that take turns.

    Args:
        work: `work(numbers)` goes through blocks of these numbers.
        blocks: How many there are.
        passes: How many of each.
    """
    ratios = []
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        list(pool.map(work, [range(2)] * 2))  # starts both
        for _ in range(passes):
            one, two = (_seconds(pool, work, blocks, count) for count in (1, 2))
            ratios.append(one / two)
    return median(ratios)


def _seconds(pool: ProcessPoolExecutor, work: Callable[[range], Any], blocks: int, processes: int) -> float:
    start = time.perf_counter()
    list(pool.map(work, [range(first, blocks, processes) for first in range(processes)]))
    return time.perf_counter() - start


@contextmanager
def watched():
    """Yield a list that gets the peak memory in bytes of this process and its children, shared pages counted once."""
    peak, done = [0], threading.Event()

    def look():
        while not done.wait(0.2):
            total = 0
            for process in (me := psutil.Process(), *me.children(recursive=True)):
                try:
                    total += process.memory_full_info().pss
                except psutil.Error:  # it has ended
                    continue
            peak[0] = max(peak[0], total)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()
