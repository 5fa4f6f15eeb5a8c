"""How much memory there is for this process: that of the machine, or of the container it runs in."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

CONTAINER = tuple(Path("/sys/fs/cgroup") / name for name in ("memory.max", "memory/memory.limit_in_bytes"))
"""Where Linux says what memory a container has, by version 2 and version 1 of cgroups."""


def installed_bytes() -> int | None:
    """Return the memory of the machine in bytes; None where the system does not say.

    In a container that is what it was given, where Linux says so in the usual place (cgroups(7)).
    """
    if "SC_PHYS_PAGES" not in getattr(os, "sysconf_names", {}):
        return None
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([machine, *filter(None, map(number_in, CONTAINER))])


def number_in(path: Path) -> int | None:
    """Return the number that a file holds; None where it is not there, or holds a word such as `max`.

    Args:
        path: Of the file.
    """
    with suppress(OSError, ValueError):
        return int(path.read_text())
    return None
