"""How far a run is: a bar on a terminal, a line that changes in a notebook, a line per pass elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from gradkernels.bench.race.progress import text_shown
from gradkernels.bench.run.session import SessionProgress, TellProgress
from gradkernels.bench.sweep.spread import TellCases
from gradkernels.names import counted


@contextmanager
def run_progress_shown() -> Iterator[TellProgress]:
    """Show progress for as long as the context lasts, with the time left on a terminal."""
    if Console().is_jupyter:
        with text_shown() as show:
            yield lambda at: show(f"{at.title}, case {at.case + 1} of {at.cases}")
        return
    if not sys.stderr.isatty():
        yield _lines()
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TextColumn("left"))
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=None)

        def tell(at: SessionProgress) -> None:
            # The memory pass counts as one more.
            total = (at.passes + 1) * at.cases
            bar.update(task, description=at.title, total=total, completed=at.pass_ * at.cases + at.case)

        yield tell


@contextmanager
def cases_shown() -> Iterator[TellCases]:
    """Show how many cases of a run have their rows, for as long as the context lasts."""
    in_place = Console().is_jupyter or sys.stderr.isatty()
    with text_shown() as show:

        def tell(done: int, cases: int) -> None:
            text = f"{done} of {counted(cases, 'case')}"
            if in_place:
                show(text)
            else:
                print(text, file=sys.stderr, flush=True)

        yield tell


def _lines() -> TellProgress:
    told: set[int] = set()

    def tell(at: SessionProgress) -> None:
        if at.pass_ not in told:
            told.add(at.pass_)
            print(at.title, file=sys.stderr, flush=True)

    return tell
