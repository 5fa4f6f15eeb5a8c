"""What is another at each step, as a count of steps or a weight on a schedule, and so no part of a kind."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from gradkernels.problems.module.mode_key.attributes import Path, is_code, value_kind

COUNTS = 16
"""Values after which a part of an attribute is taken for a counter, and no longer for a part of the kind: a number, a
text, the length of a list that grows."""

_LOSSES: weakref.WeakKeyDictionary[Any, dict[Path, Any]] = weakref.WeakKeyDictionary()


def loss_key(loss_fn: Callable[..., Any]) -> Any:
    """Return the kind of a loss: its class where `ModeTracker` sees its attributes, else its code and what it binds.

    What a function of the same lines binds to ever other values, such as a weight that follows a schedule, is no part.
    """
    if hasattr(loss_fn, "_parameters"):
        return type(loss_fn)
    cells = [*map(_content, getattr(loss_fn, "__closure__", None) or ())]
    named = getattr(loss_fn, "__kwdefaults__", None) or {}
    bound = [*map(value_kind, (*cells, *(getattr(loss_fn, "__defaults__", None) or ()), *named.values()))]
    if (code := getattr(loss_fn, "__code__", None)) is not None:
        ever = _LOSSES.setdefault(code, {})
        bound = [None if is_counter(ever, (place,), what) else what for place, what in enumerate(bound)]
    return value_kind(loss_fn), tuple(bound)


def is_counter(ever: dict[Path, Any], path: Path, what: Any) -> bool:
    """Note what a part is now; tell whether it was so much else before that it is a counter, which no function is.

    Args:
        ever: What each part was so far, which is changed.
        path: Of the part.
        what: It is now, hashable.
    """
    if is_code(what):
        return False
    seen = ever.get(path)
    if seen is None:
        ever[path] = what if what is not None else ()
        return False
    if type(seen) is not set:
        if seen == what:
            return False
        seen = ever[path] = {seen}
    if len(seen) <= COUNTS:
        seen.add(what)
    return len(seen) > COUNTS


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # it is empty as yet
        return None
