"""When ranks go through samples together: each sample once, all of them asking the same of their own."""

from __future__ import annotations

from typing import Any

from gradkernels.batches.asking import what_is_asked
from gradkernels.batches.loading.batch_call import BatchCall
from gradkernels.batches.ranks.group import Ranks, ranks_here
from gradkernels.batches.ranks.sharded import sharded_like
from gradkernels.batches.sums import Total
from gradkernels.names import counted


def require_each_once(source: Any, distributed: bool) -> None:
    """Raise a ValueError where a loader's sampler has some samples on two ranks.

    Args:
        source: A DataLoader, or anything else.
        distributed: Whether ranks go through samples together.
    """
    sampler: Any = getattr(source, "sampler", None)
    if type(sampler).__name__ != "DistributedSampler" or sampler.drop_last or ranks_here(distributed).size == 1:
        return
    if twice := sampler.total_size - len(sampler.dataset):
        raise ValueError(f"the loader's DistributedSampler has {counted(twice, 'sample')} twice, so that ranks have as "
                         "many; pass each once: DataLoader(..., sampler=range(rank, len(dataset), size))")  # fmt: skip


def agreed_ranks(distributed: bool, call: BatchCall) -> Ranks:
    """Return the ranks that go through samples together, once all are there and have asked the same.

    Args:
        distributed: Whether they do.
        call: What is asked of each batch.
    """
    ranks = ranks_here(distributed)
    if ranks.size > 1:
        ranks.agree(what_is_asked(call))
    return ranks


def merge_ranks(total: Total, distributed: bool, call: BatchCall) -> Any:
    """Return the result of the samples of all ranks.

    Args:
        total: Of this rank.
        distributed: Whether ranks go through samples together.
        call: What was asked of each batch.
    """
    if (ranks := agreed_ranks(distributed, call)).size > 1:
        total.merge(ranks)
    return sharded_like(total.result(), call.sharded)
