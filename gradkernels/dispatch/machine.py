"""Which kind of machine this is."""

from __future__ import annotations

import os
import platform
import re
from functools import lru_cache
from pathlib import Path


@lru_cache(maxsize=1)
def machine() -> str:
    """Name this kind of machine, the same after a restart and without a person's or host's name."""
    return kind_of_machine(cpu(), f"{os.cpu_count()}c", platform.system(), platform.machine())


def kind_of_machine(*parts: str) -> str:
    """Return the name of a kind of machine from what describes it: processor, cores, system, architecture."""
    return re.sub(r"[^a-z0-9]+", "-", " ".join(parts).lower()).strip("-")


def cpu() -> str:
    """Return the processor's model as the system names it."""
    info = Path("/proc/cpuinfo")
    if info.exists() and (found := re.search(r"^model name\s*:\s*(.+)$", info.read_text(), re.MULTILINE)):
        return found[1].strip()
    return platform.processor() or platform.machine()
