"""Arrays of numpy, and of libraries that take them."""

from __future__ import annotations

import importlib
from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec
from typing import Any

import numpy as np

from gradkernels.backend.array_library import Array, ArrayLibrary
from gradkernels.thread_variables import BLAS_VARIABLES, threads_by


def _all_between(array: Array, low: float, high: float) -> bool:
    return bool((low == -np.inf or np.minimum.reduce(array) > low) and np.maximum.reduce(array) <= high)


def _threads() -> int:
    """Return the threads of BLAS, where functions of numpy have more than one."""
    if pools := threadpoolctl():
        return max((pool["num_threads"] for pool in pools.threadpool_info() if pool["user_api"] == "blas"), default=1)
    return threads_by(BLAS_VARIABLES)


def _limited(threads: int) -> AbstractContextManager[Any]:
    pools = threadpoolctl()
    return pools.threadpool_limits(threads) if pools else nullcontext()


def threadpoolctl() -> Any:
    """Return the module that limits threads of loaded libraries, None where it is not installed."""
    return importlib.import_module("threadpoolctl") if find_spec("threadpoolctl") else None


NUMPY = ArrayLibrary(
    "numpy",
    "ndarray",
    layout=lambda array: "F" if array.flags.fnc else "C",
    all_between=_all_between,
    threads=_threads,
    limited=_limited,
)
