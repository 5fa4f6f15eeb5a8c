"""The ranking as text for a terminal: the tables of winners, and why kernels are missing from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO

from gradkernels.bench.report.ranking_table import (
    grouped,
    growths,
    legend,
    styled_cells,
    why_not,
    winners_columns,
)
from gradkernels.bench.report.terminal.columns import left_out, print_columns, shared
from gradkernels.bench.report.terminal.consoles import console_for, say
from gradkernels.bench.report.terminal.styles import TITLE_STYLE, WRONG_STYLE
from gradkernels.bench.run.ranking import CaseRanking
from gradkernels.record import Status

OPTION = "--wide"


def show_ranking(ranking: Sequence[CaseRanking], file: IO[str] | None = None, wide: bool = False) -> None:
    """Print the tables of winners, what their headers mean and why kernels are missing from them.

    Args:
        ranking: Of every case.
        file: Where to; standard output by default, and only there the option is named that prints all columns.
        wide: Whether to print all columns, however wide the tables get.
    """
    console = console_for(file)
    groups = [(name, group, [styled_cells(one) for one in group]) for name, group in grouped(ranking)]
    columns, width = winners_columns(ranking), None if wide else console.width
    told = {
        place for place in range(len(columns)) if any(row[place].plain != "-" for _, _, rows in groups for row in rows)
    }
    kept = [place for place in shared(columns, [rows for _, _, rows in groups], width) if place in told]
    for name, group, rows in groups:
        say(console, name, TITLE_STYLE)
        print_columns(console, columns, rows, kept, width)
        for sentence in growths(group):
            say(console, f"  {sentence}", hanging="    ")
        console.print()
    for sentence in legend(ranking, left_out(columns, kept)):
        say(console, sentence)
    missing = left_out(columns, [*kept, *(set(range(len(columns))) - told)])
    if missing and file is None:
        say(console, f"with {OPTION} also: {', '.join(missing)}")
    for sentence in why_not(ranking):
        say(console, f"not timed: {sentence}", WRONG_STYLE if f": {Status.wrong}: " in sentence else "")
