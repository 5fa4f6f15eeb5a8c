"""One thread for each block: where several blocks are computed at once, their kernels' threads would be in the way."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from typing import Any

from gradkernels.backend import LIBRARIES, Backend
from gradkernels.backend.numpy_arrays import threadpoolctl

_LOCK = threading.Lock()
_COMPUTING = 0
_LIMITS = ExitStack()


@contextmanager
def one_thread(backend: Backend) -> Iterator[None]:
    """Have what is computed in this thread use no other one, as far as libraries can be told in a running process.

    What they have is the process's own: it is taken when the first of several threads enters, and given back when the
    last one leaves.

    Args:
        backend: What computes.
    """
    global _COMPUTING
    backend.load()  # its pools exist from then on
    with _LOCK:
        if not _COMPUTING:
            _take(backend.name)
        _COMPUTING += 1
    try:
        with _numba_on_one():
            yield
    finally:
        with _LOCK:
            _COMPUTING -= 1
            if not _COMPUTING:
                _LIMITS.close()


def _take(name: str) -> None:
    if (pools := _pools(name)) is not None:
        _LIMITS.enter_context(pools.limit(limits=1))
    if "torch" in sys.modules:
        _LIMITS.enter_context(LIBRARIES["torch"].arrays.limited(1))


@lru_cache(maxsize=16)
def _pools(name: str) -> Any:
    """Return what limits the pools that are there once a library is loaded: looking for them takes milliseconds."""
    found = threadpoolctl()
    return found.ThreadpoolController() if found else None


@contextmanager
def _numba_on_one() -> Iterator[None]:
    """Have numba's kernels called from this thread use no other; numba keeps the number for each thread."""
    if (numba := sys.modules.get("numba")) is None:
        yield
        return
    before = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        yield
    finally:
        numba.set_num_threads(before)
