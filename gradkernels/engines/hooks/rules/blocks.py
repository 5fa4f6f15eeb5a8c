"""How rows are formed: as many samples at a time as a core's caches hold, written to memory or added to it."""

from __future__ import annotations

from collections.abc import Iterator

from gradkernels.backend import Array
from gradkernels.engines.hooks.rules.autotune import is_recording


def blocks(n: int, size: int) -> Iterator[slice]:
    """Yield slices of at most `size` samples, at least one; of all where calls are recorded, for any number."""
    if is_recording() or size >= n:
        yield slice(None)
        return
    size = max(1, size)
    for start in range(0, n, size):
        yield slice(start, start + size)


def write_or_add(out: Array, rows: Array, add: bool) -> None:
    """Write rows to `out`, or add them to what is there.

    Args:
        out: Memory, written to.
        rows: Of its shape.
        add: Whether to add.
    """
    if add:
        out += rows
    else:
        out.copy_(rows)
