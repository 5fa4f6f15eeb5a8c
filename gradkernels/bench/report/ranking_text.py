"""The ranking as text for a terminal: the tables of winners, and why kernels are missing from them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import IO

from rich.console import Console

from gradkernels.bench.report.ranking_table import grouped, growths, terminal, why_not
from gradkernels.bench.report.whole_table import print_whole
from gradkernels.bench.run.ranking import CaseRanking

RANKING_WIDTH = 200  # of output that is not a terminal, where sentences are seldom folded


def show_ranking(ranking: Sequence[CaseRanking], file: IO[str] | None = None) -> None:
    """Print the tables of winners and why kernels are missing from them, to a file or to standard output."""
    console = Console(file=file, width=None if (file or sys.stdout).isatty() else RANKING_WIDTH)
    for name, group in grouped(ranking):
        print_whole(console, terminal(name, group))
        for sentence in growths(group):
            console.print(f"  {sentence}", markup=False, highlight=False)
    for sentence in why_not(ranking):
        console.print(f"not timed: {sentence}", style="dim", markup=False, highlight=False)
