"""What a worker process may take of the machine before it is ended: time and memory."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

TIMEOUT_SECONDS = 60.0
HARNESS_SECONDS = 300.0
CONTAINER = tuple(Path("/sys/fs/cgroup") / name for name in ("memory.max", "memory/memory.limit_in_bytes"))
"""Where Linux says what memory a container has, by version 2 and version 1 of cgroups."""

SIZE_UNITS = {"": 1, "B": 1, **{f"{prefix}B": 1000**power for power, prefix in enumerate(("k", "M", "G", "T"), 1)}}
SIZE_UNITS |= {f"{prefix}iB": 1024**power for power, prefix in enumerate(("K", "M", "G", "T"), 1)}
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?(?:e[0-9]+)?) *([a-zA-Z]*)", re.ASCII)


@dataclass(frozen=True)
class ProcessLimits:
    """Limits of a worker process.

    Attributes:
        timeout: Seconds that one kernel may keep a case waiting in one go: from build to proof, or in one slice.
        max_bytes: Memory of the whole process, libraries included; None for no limit.
        harness_seconds: Patience with the harness's own work: loading libraries, drawing data, computing the reference.
    """

    timeout: float = TIMEOUT_SECONDS
    max_bytes: int | None = None
    harness_seconds: float = HARNESS_SECONDS


DEFAULT_LIMITS = ProcessLimits()


def most_bytes() -> int | None:
    """Return four fifths of the memory there is, so that a kernel that takes it all ends before the machine does.

    In a container that is what it was given, where Linux says so in the usual place (cgroups(7)).
    """
    if "SC_PHYS_PAGES" not in getattr(os, "sysconf_names", {}):
        return None
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([machine, *filter(None, map(_number_in, CONTAINER))]) * 4 // 5


def _number_in(path: Path) -> int | None:
    """Return the number that a file holds; None where it is not there, or holds a word such as `max`."""
    with suppress(OSError, ValueError):
        return int(path.read_text())
    return None


def size_in_bytes(text: str, name: str = "--max-bytes") -> int:
    """Return `4GB`, `512MiB` or plain bytes as a number of bytes.

    Raises:
        ValueError: It is none of these, or not positive.
    """
    units = {unit.lower(): factor for unit, factor in SIZE_UNITS.items()}
    match = _SIZE.fullmatch(text.strip())
    if match is None or match[2].lower() not in units:
        raise ValueError(f"{name} {text!r}: write bytes, or a number with {', '.join(filter(None, SIZE_UNITS))}")
    size = float(match[1]) * units[match[2].lower()]
    if not 1 <= size < 2**63:
        raise ValueError(f"{name} {text!r}: it must be at least 1 byte and less than 8 EiB")
    return int(size)
