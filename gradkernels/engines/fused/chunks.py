"""A large batch in chunks of rows, on several cores: where they end depends on sizes alone, as do digits of sums."""

from __future__ import annotations

from collections.abc import Callable

from gradkernels.engines.fused.codegen import threads

LARGE = 2**18  # entries of x from which a batch is cut into chunks
CHUNKS, ROUND = 16, 256  # at most so many, of a multiple of so many rows
ENTRIES_PER_SUM = 32  # times as many entries of x as of the result in a chunk of sums: joining them is then little work


def split_rows(n: int, entries: int) -> list[tuple[int, int]]:
    """Split n rows into chunks: where they end depends on the sizes alone, and so do the digits of a sum."""
    chunks = min(CHUNKS, max(1, entries // (LARGE // 2)))
    rows = -(-n // chunks // ROUND) * ROUND
    return [(start, min(start + rows, n)) for start in range(0, n, rows)]


def chunks_of_sums(n: int, entries: int, part: int) -> list[tuple[int, int]]:
    """Split n rows into chunks, each with sums of its own: fewer the larger these are.

    Args:
        n: Rows.
        entries: Of x.
        part: Numbers in the sums of a chunk.
    """
    if entries < LARGE:
        return [(0, n)]
    return split_rows(n, min(entries, entries // (ENTRIES_PER_SUM * max(1, part)) * (LARGE // 2)))


def parallel_for(work: Callable[[int, int, int], object], chunks: list[tuple[int, int]]) -> None:
    """Call `work(number, start, stop)` for each chunk, on as many threads as there may be."""
    count = min(threads.numba_threads(), len(chunks)) if len(chunks) > 1 else 1
    threads.run_each(lambda i: work(i, *chunks[i]), range(len(chunks)), count)
