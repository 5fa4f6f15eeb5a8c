"""Products of all samples' gradients with each other: each batch with each, of inputs that are kept meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from gradkernels.backend import Array, backend_of
from gradkernels.batches.loading.batch import Batch
from gradkernels.batches.loading.batch_call import BatchCall
from gradkernels.batches.ranks.group import Ranks, require_on_host
from gradkernels.batches.row_memory import GrowingRows
from gradkernels.tree import Tree, each


def gram_of_ranks(batches: Sequence[Batch], call: BatchCall, ranks: Ranks) -> Tree:
    """Compute g_i . g_j for each two samples of all ranks, `(n, n)`, or a dict of them by group.

    Args:
        batches: Of this rank, at least one.
        call: `gk.gram` of one batch.
        ranks: That go through samples together; each computes the rows of its own samples.
    """
    columns = batches
    if ranks.size > 1:
        require_on_host([(one.x, one.y) for one in batches])
        columns = [one for own in ranks.objects(list(batches)) for one in own]
    found = GrowingRows(sum(batch.size for batch in batches))
    for batch in batches:
        found.write(_row_of_blocks(batch, columns, call))
    return each(ranks.gathered, found.finish())


def _row_of_blocks(batch: Batch, columns: Sequence[Batch], call: BatchCall) -> Tree:
    blocks = [replace(call, options=call.options | {"other": (one.x, one.y)})(batch) for one in columns]
    return each(_joined, *blocks) if len(blocks) > 1 else blocks[0]


def _joined(*blocks: Array) -> Any:
    library = backend_of(blocks[0])
    assert library is not None
    return library.xp.concatenate(blocks, 1)
