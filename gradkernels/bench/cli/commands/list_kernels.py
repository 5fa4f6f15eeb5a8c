"""`gradkernels list`: kernels x quantities x problems, and the reason for every hole."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from functools import partial

from gradkernels.bench.cli import options, parse
from gradkernels.bench.cli.files import import_from_here
from gradkernels.bench.cli.options import Format
from gradkernels.bench.report import catalogue_table as catalogue_tables
from gradkernels.bench.report.catalogue import CatalogueRow, catalogue
from gradkernels.bench.report.terminal.consoles import console_for
from gradkernels.bench.run.plan import problem_from
from gradkernels.names import split_names
from gradkernels.problems import REGRESSIONS, Problem, Regression
from gradkernels.quantity import QUANTITIES


def list_kernels(
    problem: options.ProblemList = "all",
    quantity: options.QuantityNames = "all",
    kernel: options.KernelGlobs = None,
    dtype: options.ListedDtype = "float64",
    device: options.ListedDevice = "cpu",
    format_: options.PrintedWays = Format.table,
    wide: options.Wide = False,
) -> None:
    """Show every kernel, its settings, and why some cannot be used here.

    Regressions share a table, a problem of your own has one of its own. A way that can do nothing for the problems of a
    table stands below it alone, with the reason.
    """
    import_from_here()
    # A switch of this process, as `run` sets it for the processes that measure.
    os.environ.setdefault("JAX_ENABLE_X64", "1")
    problems, quantities = _problems(problem), parse.chosen_quantities(quantity)
    for one in problems:
        parse.chosen_quantities(quantity, one)
    # From all quantities, so that a way without the one asked for shows as a hole.
    chosen = parse.chosen_kernels(kernel or ["*"], QUANTITIES)
    entries = catalogue(chosen, problems, quantities, dtype, device)
    if not entries:
        raise ValueError(f"--kernel {' '.join(kernel or [])} has nothing for --quantity {quantity}; leave one out")
    kinds = _kinds(problems)
    if format_ is Format.table:
        catalogue_tables.show_catalogue(console_for(), entries, kinds, wide)
        return
    writers: dict[Format, Callable[[Sequence[CatalogueRow]], str]] = {
        Format.markdown: partial(catalogue_tables.markdown, kinds=kinds),
        Format.csv: catalogue_tables.as_csv,
        Format.json: catalogue_tables.as_json,
    }
    sys.stdout.write(parse.chosen_writer(format_, writers)(entries))


def _problems(text: str) -> list[Problem]:
    names = list(REGRESSIONS) if text == "all" else split_names(text)
    return [problem_from(name) for name in names]


def _kinds(problems: Sequence[Problem]) -> list[list[str]]:
    """Return the names of problems, those of one kind together: the regressions; of others each."""
    regressions = [one.name for one in problems if isinstance(one, Regression)]
    others = [[one.name] for one in problems if not isinstance(one, Regression)]
    return [regressions, *others] if regressions else others
