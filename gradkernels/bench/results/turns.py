"""Which rows of a table were timed in turns, and which after a race, as `record.blocks` tells of records."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradkernels.bench.results.table import Flags, ResultsTable, distinct
from gradkernels.bench.stats.estimates import Ints
from gradkernels.record import MEASURED_AGAIN


def in_main_blocks(table: ResultsTable, rows: Ints) -> Flags:
    """Return for each of some rows whether its process timed most of them in its pass; of equals the first one.

    Args:
        table: Every row.
        rows: Of one case on one machine, all of kernels and with a time.
    """
    (passes, blocks), code = distinct(table.pass_ids[1][rows], table.block[rows])
    counts = np.bincount(code)
    order = np.lexsort((blocks, -counts, passes))
    main = np.zeros(len(counts), bool)
    main[order[np.unique(passes[order], return_index=True)[1]]] = True
    found: Flags = main[code]
    return found


def rows_in_turns(table: ResultsTable, rows: Ints) -> Ints:
    """Leave out times that a kernel has only because it was tried again, apart from most others of its pass.

    They stay where the kernel has no others.

    Args:
        table: Every row.
        rows: Of one case on one machine, all of kernels and with a time.
    """
    main, kernels = in_main_blocks(table, rows), table.kernel[rows]
    chosen: Ints = rows[main | ~np.isin(kernels, kernels[main])]
    return chosen


@dataclass(frozen=True)
class RaceRows:
    """Which rows of a table place the kernels of a race, and which tell their times; without a race, all do both.

    Attributes:
        placing: Those of passes in which several ran; the winner's own passes came after.
        timing: Of a winner that was measured again those of then, as `unbiased` of records chooses them.
    """

    placing: Flags
    timing: Flags


def race_rows(table: ResultsTable) -> RaceRows:
    """Tell the rows of races apart."""
    again = table.where("reason", lambda reason: MEASURED_AGAIN in reason)
    _, code = distinct(table.run_name, table.machine, table.case, table.kernel)
    return RaceRows(~again, again | ~np.isin(code, code[again]))
