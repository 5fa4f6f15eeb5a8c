"""Which rows of several belong together: those of one block were timed in turns, those of a winner's own passes count.

A block is the process of a pass that timed a row. A kernel has one row a case and pass; only yardsticks have more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from gradkernels.coordinates import Coordinates
from gradkernels.key import Key
from gradkernels.record.row import Record

MEASURED_AGAIN = "measured again after it had won its race"
"""In the reason of rows by which the winner of a race is known: those of before chose it, so they are too fast."""


def row_identity(record: Record) -> tuple[object, ...]:
    """Return what no two rows have in common: machine, case, kernel, pass, and of a yardstick the process too."""
    block = record.block if is_in_each_block(record.kernel) else 0
    return *record.pass_id, block, record.machine, record.case, record.kernel


def is_in_each_block(kernel: str) -> bool:
    """Tell whether each process of a pass measures it, as it does yardsticks; all else has one row a pass."""
    return Key.parse(kernel).is_yardstick


def unbiased(records: Iterable[Record]) -> list[Record]:
    """Leave out the times by which the winner of a race was chosen, where it was measured again afterwards.

    The fastest of several noisy times is too fast (the winner's curse).
    """
    records = list(records)
    again = {_of_run(row) for row in records if MEASURED_AGAIN in row.measurement.reason}
    return [row for row in records if MEASURED_AGAIN in row.measurement.reason or _of_run(row) not in again]


def _of_run(row: Record) -> tuple[str, str, Coordinates, str]:
    return row.run, *_who(row)


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
