"""Peak memory of one call: how far the resident set rises above what was there before it."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path

STATUS = Path("/proc/self/status")
RESET = Path("/proc/self/clear_refs")


def peak_bytes(call: Callable[[], object]) -> int | None:
    """Bytes that a call of `call` adds to the resident set at its highest; None where it cannot be seen.

    Linux keeps the high-water mark of the resident set and resets it on request (proc(5), clear_refs).
    """
    gc.collect()
    try:
        RESET.write_text("5")
        before = _kilobytes("VmRSS")
        result = call()
        peak = _kilobytes("VmHWM")
    except OSError:
        return None
    del result
    return max(0, peak - before) * 1024


def _kilobytes(name: str) -> int:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(name))
    return int(line.split()[1])
