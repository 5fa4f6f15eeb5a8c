"""`gradkernels summary`: what the passes of results files come to, for each case and kernel."""

from __future__ import annotations

import sys

from rich.console import Console

from gradkernels.bench.cli import file_options, options, parse
from gradkernels.bench.cli.options import Format
from gradkernels.bench.compare.matching import select
from gradkernels.bench.compare.summary import KernelSummary, summarised
from gradkernels.bench.report.summary_table import (
    shown_groups,
    summary_csv,
    summary_json,
    summary_markdown,
    summary_terminal,
)
from gradkernels.bench.report.whole_table import print_whole
from gradkernels.bench.results.reader import read_results


def summary(
    files: file_options.SummarisedFiles,
    quantity: options.QuantityName = None,
    kernel: options.KernelGlobs = None,
    format_: options.PrintedKernels = Format.table,
) -> None:
    """Print one row for each case and kernel: its time over passes, with an interval, and what became of it."""
    [table] = select([read_results(files)], kernel or [], quantity)
    rows = summarised(table)
    if format_ is Format.table:
        _show(rows)
        return
    writers = {Format.markdown: summary_markdown, Format.csv: summary_csv, Format.json: summary_json}
    sys.stdout.write(parse.chosen_writer(format_, writers)(rows))


def _show(rows: list[KernelSummary]) -> None:
    console = Console(width=None if sys.stdout.isatty() else 200)
    for name, own in shown_groups(rows):
        print_whole(console, summary_terminal(name, own))
