"""How much memory is free at the moment: on the machine or in its container, or on a GPU."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from gradkernels.memory.installed import number_in

MEMINFO = Path("/proc/meminfo")
CGROUPS = Path("/sys/fs/cgroup")
LIMIT_AND_USE = ("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes")
"""What a container may have and what it has, by version 2 and version 1 of cgroups(7)."""


def free_bytes(device: str = "cpu") -> int | None:
    """Return how many bytes are free; None where the system does not say.

    Args:
        device: Its name for torch; `cpu` for the memory of the machine.
    """
    if device.startswith("cuda"):
        import torch

        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + unused
    if not device.startswith("cpu"):
        return None
    found = [_of_machine(), *(_of_container(*names) for names in LIMIT_AND_USE)]
    return min((one for one in found if one is not None), default=None)


def _of_machine() -> int | None:
    with suppress(OSError, ValueError):
        for line in MEMINFO.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return None


def _of_container(most: str, used: str) -> int | None:
    limit, use = number_in(CGROUPS / most), number_in(CGROUPS / used)
    return None if limit is None or use is None else max(0, limit - use)
