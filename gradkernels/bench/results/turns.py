"""Which rows of a table were timed in turns, as `gradkernels.record.blocks` tells it of records."""

from __future__ import annotations

import numpy as np

from gradkernels.bench.results.table import Flags, ResultsTable, distinct
from gradkernels.bench.stats.estimates import Ints


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
