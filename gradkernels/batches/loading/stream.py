"""One pass over the batches: loaded ahead, counted, and shown how far it is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from time import monotonic
from typing import Any

from gradkernels.batches.loading.batch import Batch, BatchReader, Split
from gradkernels.batches.loading.batch_call import BatchCall
from gradkernels.batches.loading.prefetch import prefetched
from gradkernels.batches.loading.progress import Done, progress_shown
from gradkernels.problems import BlackBox


@dataclass(frozen=True, eq=False)
class Stream:
    """Where batches come from, and how they are gone through.

    Attributes:
        source: A DataLoader, or any iterable.
        split: What makes x and y of what it yields; None for pairs.
        prefetch: How many batches are loaded ahead, by a thread; 0 for none.
        progress: Whether it is shown how far a pass is; None for where it takes long.
    """

    source: Iterable[Any]
    split: Split | None = None
    prefetch: int = 2
    progress: bool | None = None

    def batches(self, call: BatchCall, known: bool = False, skip: int = 0) -> Iterator[Batch]:
        """Yield all batches that have samples.

        Args:
            call: What is asked of them.
            known: Whether they get fingerprints; batches without samples are then yielded too.
            skip: How many of them were computed by an earlier call.

        Raises:
            ValueError: There are no samples, or fewer than an option has entries for.
        """
        problem, theta = call.problem, call.theta
        own = problem.parameters() if theta is None and isinstance(problem, BlackBox) else theta
        read = BatchReader(problem, own, self.split, known).read(iter(self.source))
        total, samples, since = self.length, 0, monotonic()
        with progress_shown(self.progress, total) as tell, closing(prefetched(read, self.prefetch)) as loaded:
            for batch in loaded:
                if batch.number == skip:
                    since = monotonic()
                if batch.size or known:
                    yield batch
                samples = batch.stop
                tell(Done(batch.number + 1, samples, total, min(skip, batch.number + 1), monotonic() - since))
        if not samples:
            raise ValueError("the batches have no samples; pass a list of (x, y), a DataLoader or a generator that was "
                             "not gone through yet")  # fmt: skip
        call.require_length(samples)

    @property
    def length(self) -> int | None:
        """Number of batches, where it is known."""
        return _length(self.source)

    @property
    def samples(self) -> int | None:
        """Number of samples, where a DataLoader knows it."""
        sampler, size = getattr(self.source, "sampler", None), getattr(self.source, "batch_size", None)
        if size is None or sampler is None:
            return None
        dropped = getattr(self.source, "drop_last", False)
        found, batches = _length(sampler), self.length
        if found is None or batches is None:
            return None
        return min(found, batches * size) if dropped else found


def _length(sized: Any) -> int | None:
    try:
        return len(sized)
    except TypeError:  # it has no length, or its data set has none
        return None
