"""Environment variables by which libraries limit their threads when they load: light, as they are set before that."""

from __future__ import annotations

import os

BLAS_VARIABLES = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")
XLA_VARIABLES = ("PJRT_NPROC", "NPROC")


def threads_by(names: tuple[str, ...]) -> int:
    """Return the first of the environment variables that is a number, else the number of cores."""
    values = (os.environ.get(name, "") for name in names)
    return next((int(value) for value in values if value.isdecimal()), os.cpu_count() or 1)
