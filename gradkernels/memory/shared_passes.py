"""Passes through a model that several computations share: kept within one scope, of one batch each, and then dropped.

Nothing here knows what a pass is: an engine that runs one looks whether there is a scope and what that expects, and
whoever opens the scope says for which calls it holds.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

MOST_SHARED_PASSES = 4
"""Batches of one scope whose passes are kept."""

_current: ContextVar[SharedPasses | None] = ContextVar("shared_passes", default=None)


class SharedPasses:
    """The passes of one scope."""

    def __init__(self) -> None:
        self._kept: dict[Hashable, Any] = {}
        self._expected: Hashable = None

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Open the scope: within the context these are the current ones."""
        token = _current.set(self)
        try:
            yield
        finally:
            _current.reset(token)
            self.clear()

    @contextmanager
    def expecting(self, batch: Hashable) -> Iterator[None]:
        """Have passes of one batch be kept and found within the context, and no others.

        Args:
            batch: By `batch_key`.
        """
        before, self._expected = self._expected, batch
        try:
            yield
        finally:
            self._expected = before

    def expects(self, batch: Hashable) -> bool:
        """Return whether passes of a batch are to be shared now."""
        return batch is not None and batch == self._expected

    def get(self, key: Hashable) -> Any:
        """Return what was kept by a key; None where nothing was."""
        return self._kept.get(key)

    def keep(self, key: Hashable, one: Any) -> None:
        """Keep a pass until the end of the scope, or until there are others in its place.

        Args:
            key: All that it depends on.
            one: The pass.
        """
        while len(self._kept) >= MOST_SHARED_PASSES:
            del self._kept[next(iter(self._kept))]
        self._kept[key] = one

    def clear(self) -> None:
        """Drop all passes."""
        self._kept.clear()


def current_passes() -> SharedPasses | None:
    """Return the passes of the scope that is open; None where none is."""
    return _current.get()


def batch_key(tensors: list[Any]) -> Hashable:
    """Return where and what some tensors are, and how often they were written to; None where that cannot be told."""
    try:
        return tuple((one.data_ptr(), one._version, one.dtype, one.device, one.shape, one.stride()) for one in tensors)
    except (AttributeError, RuntimeError):  # of torch.inference_mode, or without memory
        return None
