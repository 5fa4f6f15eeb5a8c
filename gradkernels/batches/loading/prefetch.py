"""What an iterator yields, loaded by a thread while what came before is computed with."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")

LOOK = 0.1
"""Seconds after which the thread looks whether anybody still waits for it."""

PATIENCE = 1.0
"""Seconds that its end is waited for: what loads data may hang."""


class _Loaded(NamedTuple):
    """What the thread passes on: an item, an error, or nothing at the end."""

    item: Any = None
    error: BaseException | None = None
    last: bool = False


def prefetched(items: Iterator[T], ahead: int) -> Generator[T, None, None]:
    """Yield the items, of which up to `ahead` are loaded beforehand; errors come where the item would have come.

    Args:
        items: An iterator, that only the thread is in.
        ahead: How many; 0 for no thread.
    """
    if ahead < 1:
        yield from items
        return
    queue, over = Queue[_Loaded](ahead), Event()
    thread = Thread(target=_load, args=(items, queue, over), name="gradkernels-prefetch", daemon=True)
    thread.start()
    try:
        while not (loaded := queue.get()).last:
            yield loaded.item
        if loaded.error is not None:
            raise loaded.error
    finally:
        over.set()
        while not queue.empty():  # so that what is loaded is not kept
            try:
                queue.get_nowait()
            except Empty:
                break
        thread.join(PATIENCE)


def _load(items: Iterator[Any], queue: Queue[_Loaded], over: Event) -> None:
    try:
        for item in items:
            if not _passed_on(_Loaded(item), queue, over):
                return
        _passed_on(_Loaded(last=True), queue, over)
    except BaseException as error:  # whatever it is, it is the caller's
        _passed_on(_Loaded(error=error, last=True), queue, over)


def _passed_on(loaded: _Loaded, queue: Queue[_Loaded], over: Event) -> bool:
    """Return whether somebody takes it."""
    while not over.is_set():
        try:
            queue.put(loaded, timeout=LOOK)
        except Full:
            continue
        return True
    return False
