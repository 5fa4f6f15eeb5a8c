"""Peak memory of one call: how far what is in use rises above what was in use before it."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from pathlib import Path

from gradkernels.memory import RESULTS

STATUS = Path("/proc/self/status")
RESET = Path("/proc/self/clear_refs")


def peak_bytes(call: Callable[[], object], device: str = "cpu") -> int | None:
    """Return the bytes that a call adds at its highest, its result included; None where it cannot be seen.

    On the CPU that is the resident set, whose high-water mark Linux keeps and resets on request (proc(5),
    clear_refs); on CUDA what torch's allocator has handed out.
    """
    gc.collect()
    return _allocator_peak(call) if device.startswith("cuda") else _resident_peak(call)


def _allocator_peak(call: Callable[[], object]) -> int:
    from torch import cuda

    cuda.synchronize()
    cuda.reset_peak_memory_stats()
    before = cuda.memory_allocated()
    result = call()
    cuda.synchronize()
    del result
    return int(cuda.max_memory_allocated()) - before


def _resident_peak(call: Callable[[], object]) -> int | None:
    _give_back()
    try:
        RESET.write_text("5")
        before = _kilobytes("VmRSS")
        result = call()
        peak = _kilobytes("VmHWM")
    except OSError:
        return None
    del result
    return max(0, peak - before) * 1024


def _give_back() -> None:
    """Return what earlier calls have freed, glibc's as well: a call that used it again would seem to need nothing."""
    RESULTS.release()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _kilobytes(name: str) -> int:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(name))
    return int(line.split()[1])
