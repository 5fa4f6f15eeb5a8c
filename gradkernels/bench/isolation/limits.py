"""What a worker process may take of the machine before it is ended: time and memory."""

from __future__ import annotations

import re
from dataclasses import dataclass

from gradkernels.memory.installed import installed_bytes

TIMEOUT_SECONDS = 60.0
HARNESS_SECONDS = 300.0
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
    """Return four fifths of the memory there is, so that a kernel that takes it all ends before the machine does."""
    there_is = installed_bytes()
    return None if there_is is None else there_is * 4 // 5


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
