"""One batch: what a loader yields as x and y, in theta's library and on its device, and which samples they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gradkernels.backend import Array, backend_of
from gradkernels.batches.loading.digests import digest
from gradkernels.problems import BlackBox, Problem
from gradkernels.scale.lazy_arrays import is_lazy
from gradkernels.tree import Tree, count, each, leaves

Split = Callable[[Any], tuple[Any, Any]]
"""`split(batch)`, the x and y of what the loader yields."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Some samples in a row.

    Attributes:
        number: Of the batch, from 0 on.
        start: Its first sample's number among all.
        size: Number of samples.
        x: Features or inputs, samples first.
        y: Targets, samples first.
        digest: Fingerprint of x and y; empty where none was asked for.
    """

    number: int
    start: int
    size: int
    x: Tree
    y: Tree
    digest: str = ""

    @property
    def stop(self) -> int:
        """One more than its last sample's number."""
        return self.start + self.size

    def __str__(self) -> str:
        """Return `batch 3 (samples 96 to 127)`."""
        which = f"samples {self.start:,} to {self.stop - 1:,}" if self.size else "without samples"
        return f"batch {self.number:,} ({which})"


@dataclass(frozen=True, eq=False)
class BatchReader:
    """Makes batches of what a loader yields.

    Attributes:
        problem: What is differentiated.
        theta: Parameters, to whose library and device the samples go.
        split: What takes x and y out of what is yielded; None for pairs, and for dicts without targets.
        known: Whether fingerprints are taken.
    """

    problem: Problem
    theta: Tree
    split: Split | None = None
    known: bool = False

    def read(self, items: Iterable[Any]) -> Iterator[Batch]:
        """Yield batch after batch."""
        start = 0
        for number, item in enumerate(items):
            try:
                x, y = self._pair(item)
                if any(map(is_lazy, leaves((x, y)))):
                    raise TypeError("x or y is a dask array; pass those to gk's functions themselves")
                _, x, y = self.problem.as_inputs(self.theta, x, y)
                seen = digest(x, y) if self.known else ""
                x, y = self._placed(x, y)
                size = count((x, y)) if isinstance(self.problem, BlackBox) else count(y)
            except (TypeError, ValueError, IndexError) as error:
                kind = TypeError if isinstance(error, TypeError) else ValueError
                raise kind(f"batch {number:,}: {error}") from error
            yield Batch(number, start, size, x, y, seen)
            start += size

    def _pair(self, item: Any) -> tuple[Any, Any]:
        if self.split is not None:
            item = self.split(item)
        elif isinstance(item, Mapping) and isinstance(self.problem, BlackBox):
            return item, None
        if not isinstance(item, tuple | list) or len(item) != 2:
            what = f"{len(item)} parts" if isinstance(item, tuple | list) else f"a {type(item).__name__}"
            raise TypeError(f"it is {what}, and must be (x, y); pass split=, a function that makes x and y of it")
        return item[0], item[1]

    def _placed(self, x: Tree, y: Tree) -> tuple[Tree, Tree]:
        like = leaves(self.theta)[0]
        x, y = each(lambda leaf: placed(leaf, like), x), each(lambda leaf: placed(leaf, like), y)
        if isinstance(self.problem, BlackBox):  # which could not count arrays of another library where y has none
            return self.problem.prepared(x, y)
        return x, y


def placed(array: Any, like: Array) -> Any:
    """Return an array in the library and on the device of another one; what is no array as it is.

    Args:
        array: What the loader has.
        like: A parameter.
    """
    source, target = backend_of(array), backend_of(like)
    if source is None or target is None:
        return array
    device = target.arrays.device_of(like)
    if source is not target:
        return target.put(source.get(array), device)
    return array if source.arrays.device_of(array) == device else array.to(like.device, non_blocking=True)
