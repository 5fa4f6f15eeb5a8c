"""How far a race is: a line that goes when it is over, on a terminal and in a notebook; nothing elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console

from gradkernels.bench.run.session import TellProgress

TellText = Callable[[str], None]

REFRESHES_PER_SECOND = 2
"""Of the line on a terminal: each takes time of a core that kernels are timed on."""


@contextmanager
def line_shown() -> Iterator[TellProgress]:
    """Show which pass a race is in, for as long as the context lasts."""
    with text_shown() as tell:
        # How many there will be depends on what drops out, and when.
        yield lambda at: tell(f"race: pass {at.pass_}")


@contextmanager
def text_shown() -> Iterator[TellText]:
    """Yield a function that shows a line in the place of the one before; nothing is left of it afterwards."""
    console = Console(stderr=True)
    if console.is_jupyter:
        with _in_notebook() as tell:
            yield tell
    elif sys.stderr and sys.stderr.isatty():
        with console.status("starting", refresh_per_second=REFRESHES_PER_SECOND) as status:
            yield status.update
    else:
        yield _quietly


@contextmanager
def _in_notebook() -> Iterator[TellText]:
    """Show lines in an output of the cell: by IPython itself, since rich would need ipywidgets too."""
    from IPython import display

    show: Any = display.display
    output = show({"text/plain": "starting"}, raw=True, display_id=True)

    def tell(text: str) -> None:
        output.update({"text/plain": text}, raw=True)

    try:
        yield tell
    finally:
        tell("")


def _quietly(text: str) -> None:
    """Show nothing."""
