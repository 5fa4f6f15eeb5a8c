"""Arrays of JAX, on the CPU."""

from __future__ import annotations

import importlib
import os
import sys

import numpy as np

from gradkernels.backend.array_library import ArrayLibrary
from gradkernels.thread_variables import XLA_VARIABLES, threads_by


def _jax_refuses(dtype: str, device: str) -> list[str]:
    if dtype != "float64" or _jax_has_x64():
        return []
    return [
        "JAX computes float64 as float32 until x64 is on: call "
        "jax.config.update('jax_enable_x64', True) or set JAX_ENABLE_X64=1 at your entry point"
    ]


def _jax_has_x64() -> bool:
    if "jax" in sys.modules:
        return bool(sys.modules["jax"].config.jax_enable_x64)
    return os.environ.get("JAX_ENABLE_X64", "").lower() in ("1", "true", "yes", "on")


JAX = ArrayLibrary(
    "jax",
    "Array",
    namespace="jax.numpy",
    put=lambda array, device: importlib.import_module("jax.numpy").asarray(array),
    get=np.array,
    wait=lambda result: sys.modules["jax"].block_until_ready(result),
    eager_on=(),
    compile=lambda function: importlib.import_module("jax").jit(function),
    refuses=_jax_refuses,
    threads=lambda: threads_by(XLA_VARIABLES),
    sum_by=lambda rows, groups, count: sys.modules["jax"].ops.segment_sum(rows, groups, num_segments=count),
    read_only="JAX arrays cannot be written to",
)
