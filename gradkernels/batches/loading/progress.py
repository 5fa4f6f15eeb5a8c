"""How far a pass over batches is, with the time left: a bar on a terminal, a line in a notebook, lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from time import monotonic
from typing import Any

Tell = Callable[["Done"], None]

QUIET_SECONDS = 30.0
"""Between two lines, and before the first one, where there is no terminal."""

REFRESH_SECONDS = 0.5
"""Between two updates of a line that stays where it is."""


@dataclass(frozen=True)
class Done:
    """What is done of a pass.

    Attributes:
        batches: Number of batches gone through.
        samples: Number of their samples.
        total: Number of all batches; None where nobody knows.
        known: Batches of these that were computed by an earlier call.
        seconds: Since this call began.
    """

    batches: int
    samples: int
    total: int | None
    known: int
    seconds: float

    @property
    def seconds_left(self) -> float | None:
        """What the other batches take if each takes as long as those of this call; None where nobody knows."""
        computed = self.batches - self.known
        if self.total is None or computed < 1:
            return None
        return self.seconds * (self.total - self.batches) / computed

    def __str__(self) -> str:
        """Return `batch 120 of 7,813, 15,360 samples, 0:02:10 left`."""
        of = "" if self.total is None else f" of {self.total:,}"
        left = self.seconds_left
        more = "" if left is None else f", {timedelta(seconds=round(left))} left"
        return f"batch {self.batches:,}{of}, {self.samples:,} samples{more}"


@contextmanager
def progress_shown(show: bool | None, total: int | None) -> Iterator[Tell]:
    """Show how far a pass is for as long as the context lasts.

    Args:
        show: False for nothing; else on a terminal or in a notebook, and as lines elsewhere where it takes long.
        total: Number of all batches, where it is known.
    """
    if show is False:
        yield _quietly
    elif notebook := _display():
        with _in_notebook(notebook) as tell:
            yield _seldom(tell, REFRESH_SECONDS)
    elif not (sys.stderr and sys.stderr.isatty()):
        yield _seldom(_line, QUIET_SECONDS, monotonic())
    else:
        with _on_terminal(total) as tell:
            yield _seldom(tell, REFRESH_SECONDS)


def _quietly(done: Done) -> None:
    """Show nothing."""


def _line(done: Done) -> None:
    print(f"gradkernels: {done}", file=sys.stderr, flush=True)


def _seldom(tell: Tell, seconds: float, told: float = float("-inf")) -> Tell:
    def call(done: Done) -> None:
        nonlocal told
        if (now := monotonic()) - told >= seconds:
            told = now
            tell(done)

    return call


@contextmanager
def _on_terminal(total: int | None) -> Iterator[Tell]:
    """Show a bar by rich, where it is installed; else a line that is written over."""
    try:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn
    except ModuleNotFoundError:
        yield lambda done: print(f"\r\033[K{done}", end="", file=sys.stderr, flush=True)
        print("\r\033[K", end="", file=sys.stderr, flush=True)
        return
    columns = BarColumn(), TextColumn("{task.description}")
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=total)
        yield lambda done: bar.update(task, description=str(done), completed=done.batches)


def _display() -> Any:
    """Return IPython's display in a notebook, else None."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None and hasattr(ipython, "get_ipython") else None
    if type(shell).__name__ != "ZMQInteractiveShell":
        return None
    from IPython import display

    return display.display


@contextmanager
def _in_notebook(display: Any) -> Iterator[Tell]:
    output = display({"text/plain": "starting"}, raw=True, display_id=True)
    try:
        yield lambda done: output.update({"text/plain": str(done)}, raw=True)
    finally:
        output.update({"text/plain": ""}, raw=True)
