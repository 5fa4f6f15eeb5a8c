"""How far a race is: a line on a terminal that goes when it is over, nothing elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from gradkernels.bench.run.session import SessionProgress, TellProgress

CLEAR_LINE = "\r\x1b[K"


@contextmanager
def line_shown() -> Iterator[TellProgress]:
    """Show on standard error which pass a race is in, for as long as the context lasts."""
    if not (sys.stderr and sys.stderr.isatty()):
        yield _quietly
        return
    try:
        yield _tell
    finally:
        _write(CLEAR_LINE)


def _tell(at: SessionProgress) -> None:
    # How many there will be depends on what drops out, and when.
    _write(f"{CLEAR_LINE}race: pass {at.pass_}")


def _write(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()


def _quietly(at: SessionProgress) -> None:
    """Report no progress."""
