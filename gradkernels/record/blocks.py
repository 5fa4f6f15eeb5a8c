"""Which rows were timed in turns: those of one block, the process that timed them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from gradkernels.coordinates import Coordinates
from gradkernels.record.row import Record


def in_turns(records: Iterable[Record]) -> list[Record]:
    """Leave out times that a kernel has only because it was tried again, apart from the others of its case and pass.

    They stay where the kernel has no others: what is known of it is better than nothing, and compared with nobody.

    Args:
        records: Of kernels; the yardsticks are timed in every block and would count for it.
    """
    records = list(records)
    timed = [row for row in records if row.measurement.seconds_median is not None]
    main = _main_blocks(timed)
    among = {_who(row) for row in timed if _where(row) in main}
    apart = {id(row) for row in timed if _where(row) not in main and _who(row) in among}
    return [row for row in records if id(row) not in apart]


def _main_blocks(timed: Iterable[Record]) -> set[tuple[Any, ...]]:
    """Return the block of each machine, case and pass that timed most kernels, the first one of equals."""
    counts: dict[tuple[Any, ...], Counter[int]] = {}
    for row in timed:
        counts.setdefault((row.machine, row.case, *row.pass_id), Counter())[row.block] += 1
    return {(*one, min(blocks, key=lambda block: (-blocks[block], block))) for one, blocks in counts.items()}


def _where(row: Record) -> tuple[Any, ...]:
    return row.machine, row.case, *row.block_id


def _who(row: Record) -> tuple[str, Coordinates, str]:
    return row.machine, row.case, row.kernel
