"""Names that people type: looked up in one way, refused with what was probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


def pick(table: dict[str, Any], name: str, kind: str) -> Any:
    """`table[name]`, or a ValueError that says what is there and what was probably meant."""
    if name in table:
        return table[name]
    raise ValueError(unknown(kind, name, table))


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """The sentence for a name that is not known: near names first, else all of them."""
    known = list(known)
    near = difflib.get_close_matches(str(name), known, n=3, cutoff=0.5)
    hint = f"known: {', '.join(known)}" if known else "there are none"
    if near:
        hint = f"did you mean {' or '.join(near)}?"
    return f"there is no {kind} {name!r}; {hint}"
