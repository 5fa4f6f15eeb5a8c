"""Threads and JAX's 64 bits in a process that is not the harness's own, such as a pytest session."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from gradkernels.thread_variables import BLAS_VARIABLES, XLA_VARIABLES

if TYPE_CHECKING:  # numpy may not load before its threads are set
    from gradkernels.backend import Backend


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
    from gradkernels.backend import LIBRARIES

    backend.load()  # its pools exist from then on
    with ExitStack() as stack:
        for library in LIBRARIES.values():
            if library.name in sys.modules:
                stack.enter_context(library.arrays.limited(threads))
        yield backend.arrays.threads()
