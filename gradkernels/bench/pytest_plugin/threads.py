"""Threads and JAX's 64 bits in a process that is not the harness's own, such as a pytest session."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # numpy may not load before its threads are set
    from gradkernels.backend import Backend

BLAS_VARIABLES = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")
XLA_VARIABLES = ("PJRT_NPROC", "NPROC")


def prepare_process() -> None:
    """Set 64 bits for JAX, and one thread for the pools of libraries that are not loaded yet: later they are fixed.

    Variables that the user has set stay as they are. For entry points only, never for an import.
    """
    if "numpy" not in sys.modules and not any(name in os.environ for name in BLAS_VARIABLES):
        os.environ.update(dict.fromkeys(BLAS_VARIABLES, "1"))
    if "jax" in sys.modules:
        sys.modules["jax"].config.update("jax_enable_x64", True)
        return
    os.environ.setdefault("JAX_ENABLE_X64", "1")
    if not any(name in os.environ for name in XLA_VARIABLES):
        os.environ[XLA_VARIABLES[0]] = "1"


@contextmanager
def limited(backend: Backend, threads: int) -> Iterator[int]:
    """Use at most `threads` threads where the library can still be told; yield how many `backend` then has."""
    backend.load()  # its pools exist from then on
    with ExitStack() as stack:
        if pools := _threadpoolctl():
            stack.enter_context(pools.threadpool_limits(threads))
        if torch := sys.modules.get("torch"):
            stack.callback(torch.set_num_threads, torch.get_num_threads())
            torch.set_num_threads(threads)
        yield _threads(backend)


def _threads(backend: Backend) -> int:
    if backend.arrays.name == "torch":
        return int(sys.modules["torch"].get_num_threads())
    if backend.arrays.name == "jax":
        return _variable(XLA_VARIABLES)
    if pools := _threadpoolctl():
        return max((p["num_threads"] for p in pools.threadpool_info() if p["user_api"] == "blas"), default=1)
    return _variable(BLAS_VARIABLES)


def _threadpoolctl() -> Any:
    return importlib.import_module("threadpoolctl") if find_spec("threadpoolctl") else None


def _variable(names: tuple[str, ...]) -> int:
    """Return the first of the environment variables that is a number, else the number of cores."""
    values = (os.environ.get(name, "") for name in names)
    return next((int(value) for value in values if value.isdecimal()), os.cpu_count() or 1)
