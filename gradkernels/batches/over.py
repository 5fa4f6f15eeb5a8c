"""`gk.over`: the functions of `gk` without x and y, of all samples of a loader."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gradkernels.batches.loading.batch import Split
from gradkernels.batches.loading.stream import Stream
from gradkernels.batches.over_batches import OverBatches
from gradkernels.validate import validate_count


def over(
    batches: Iterable[Any],
    *,
    split: Split | None = None,
    prefetch: int = 2,
    progress: bool | None = None,
    distributed: bool = True,
) -> OverBatches:
    """Ask quantities of all samples of a DataLoader, or of any iterable of `(x, y)`, a batch at a time.

    Args:
        batches: They are gone through once for each call. Arrays may be of numpy or torch, whatever theta is, and are
            moved to its device.
        split: `split(batch)` makes `(x, y)` of what is yielded, where that is anything else; a dict is the inputs of a
            module that computes its own loss.
        prefetch: How many batches a thread loads ahead; 0 for no thread.
        progress: False to show nothing; True or None to show how far it is, with the time left: on a terminal, in a
            notebook, and elsewhere by a line on stderr each half minute.
        distributed: Whether the ranks of torch.distributed, where there are any, go through samples together, each
            through its own; False for each rank by itself.

    Returns:
        What has the functions: sums with memory for one result and one batch, and rows, which fill memory, a memory
        map or a file as they come.
    """
    if not isinstance(batches, Iterable):
        raise TypeError(f"batches is a {type(batches).__name__}; it must be a DataLoader, or an iterable of (x, y)")
    if prefetch:
        validate_count("prefetch", prefetch)
    return OverBatches(Stream(batches, split, prefetch, progress), distributed)
