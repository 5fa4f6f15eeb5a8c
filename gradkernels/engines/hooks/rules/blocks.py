"""How many samples are computed at a time: as many as a core's caches hold."""

from __future__ import annotations

from collections.abc import Iterator

from gradkernels.engines.hooks.rules.autotune import is_recording


def blocks(n: int, size: int) -> Iterator[slice]:
    """Yield slices of at most `size` samples, at least one; of all where calls are recorded, for any number."""
    if is_recording() or size >= n:
        yield slice(None)
        return
    size = max(1, size)
    for start in range(0, n, size):
        yield slice(start, start + size)
