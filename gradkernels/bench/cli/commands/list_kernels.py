"""`gradkernels list`: kernels x quantities x problems, and the reason for every hole."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from rich.console import Console

from gradkernels.bench.cli import options, parse
from gradkernels.bench.cli.files import import_from_here
from gradkernels.bench.cli.options import Format
from gradkernels.bench.report import catalogue_table as catalogue_tables
from gradkernels.bench.report.catalogue import CatalogueRow, catalogue
from gradkernels.bench.report.whole_table import print_whole
from gradkernels.bench.run.plan import problem_from
from gradkernels.names import split_names
from gradkernels.problems import REGRESSIONS, Problem
from gradkernels.quantity import QUANTITIES


def list_kernels(
    problem: options.ProblemList = "all",
    quantity: options.QuantityNames = "all",
    kernel: options.KernelGlobs = None,
    dtype: options.ListedDtype = "float64",
    device: options.ListedDevice = "cpu",
    format_: options.PrintedWays = Format.table,
) -> None:
    """Show every kernel, its settings, and why some cannot be used here."""
    import_from_here()
    # A switch of this process, as `run` sets it for the processes that measure.
    os.environ.setdefault("JAX_ENABLE_X64", "1")
    quantities = parse.chosen_quantities(quantity)
    problems = _problems(problem)
    # From all quantities, so that a way without the one asked for shows as a hole.
    chosen = parse.chosen_kernels(kernel or ["*"], QUANTITIES)
    entries = catalogue(chosen, problems, quantities, dtype, device)
    if not entries:
        raise ValueError(f"--kernel {' '.join(kernel or [])} has nothing for --quantity {quantity}; leave one out")
    if format_ is Format.table:
        _show(entries)
        return
    writers = {
        Format.markdown: catalogue_tables.markdown,
        Format.csv: catalogue_tables.as_csv,
        Format.json: catalogue_tables.as_json,
    }
    sys.stdout.write(parse.chosen_writer(format_, writers)(entries))


def _problems(text: str) -> list[Problem]:
    names = list(REGRESSIONS) if text == "all" else split_names(text)
    return [problem_from(name) for name in names]


def _show(entries: Sequence[CatalogueRow]) -> None:
    console = Console(width=None if sys.stdout.isatty() else 200)
    numbers = catalogue_tables.reasons(entries)
    for name, own in catalogue_tables.by_problem(entries):
        print_whole(console, catalogue_tables.terminal(name, own, numbers))
    for sign, says in catalogue_tables.notes(numbers):
        console.print(f"{sign:>4}  {says}", markup=False, highlight=False)
