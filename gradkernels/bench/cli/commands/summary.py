"""`gradkernels summary`: what the passes of results files come to, for each case and kernel."""

from __future__ import annotations

import sys

from rich.text import Text

from gradkernels.bench.cli import file_options, options, parse
from gradkernels.bench.cli.options import Format
from gradkernels.bench.compare.matching import select
from gradkernels.bench.compare.summary import KernelSummary, summarised
from gradkernels.bench.report.summary_table import (
    SHOWN,
    shown_groups,
    summary_cells,
    summary_csv,
    summary_json,
    summary_markdown,
)
from gradkernels.bench.report.terminal.columns import left_out, print_columns, shared
from gradkernels.bench.report.terminal.consoles import console_for, say
from gradkernels.bench.report.terminal.styles import TITLE_STYLE
from gradkernels.bench.results.reader import read_results


def summary(
    files: file_options.SummarisedFiles,
    quantity: options.QuantityName = None,
    kernel: options.KernelGlobs = None,
    format_: options.PrintedKernels = Format.table,
    wide: options.Wide = False,
) -> None:
    """Print one row for each case and kernel: its time over passes, with an interval, and what became of it."""
    [table] = select([read_results(files)], kernel or [], quantity)
    if not (rows := summarised(table)):
        raise ValueError(f"{', '.join(map(str, files))} has no rows of kernels; `gradkernels run` writes them")
    if format_ is Format.table:
        _show(rows, wide)
        return
    writers = {Format.markdown: summary_markdown, Format.csv: summary_csv, Format.json: summary_json}
    sys.stdout.write(parse.chosen_writer(format_, writers)(rows))


def _show(rows: list[KernelSummary], wide: bool) -> None:
    console = console_for()
    width = None if wide else console.width
    groups = [(name, [[Text(cell) for cell in summary_cells(row)] for row in own]) for name, own in shown_groups(rows)]
    kept = shared(SHOWN, [cells for _, cells in groups], width)
    for name, cells in groups:
        say(console, name, TITLE_STYLE)
        print_columns(console, SHOWN, cells, kept, width)
        console.print()
    if missing := left_out(SHOWN, kept):
        say(console, f"with --wide also: {', '.join(missing)}")
