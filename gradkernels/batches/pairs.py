"""Products of all samples' gradients with each other: each batch with each, of inputs that are kept meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from gradkernels.backend import Array, backend_of
from gradkernels.batches.batch import Batch
from gradkernels.batches.batch_call import BatchCall
from gradkernels.batches.row_memory import GrowingRows
from gradkernels.tree import Tree, each


def gram_of_all(rows: Sequence[Batch], columns: Sequence[Batch], call: BatchCall) -> Tree:
    """Compute g_i . h_j for each sample of some batches and each of others, `(n, m)`, or a dict of them by group.

    Args:
        rows: Batches of the g, at least one.
        columns: Batches of the h, at least one.
        call: `gk.gram` of one batch.
    """
    found = GrowingRows(sum(batch.size for batch in rows))
    for batch in rows:
        found.write(_row_of_blocks(batch, columns, call))
    return found.finish()


def _row_of_blocks(batch: Batch, columns: Sequence[Batch], call: BatchCall) -> Tree:
    blocks = [replace(call, options=call.options | {"other": (one.x, one.y)})(batch) for one in columns]
    return each(_joined, *blocks) if len(blocks) > 1 else blocks[0]


def _joined(*blocks: Array) -> Any:
    library = backend_of(blocks[0])
    assert library is not None
    return library.xp.concatenate(blocks, 1)
