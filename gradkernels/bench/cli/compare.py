"""`gradkernels compare`: two results files, case by case."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Annotated

import typer

from gradkernels.bench.compare import compare as compare_records
from gradkernels.bench.comparison import Comparison
from gradkernels.bench.formats import Format, as_csv, as_json, markdown, table
from gradkernels.bench.pairing import select
from gradkernels.bench.summary import summary
from gradkernels.record import read


def compare(
    before: Annotated[Path, typer.Argument(metavar="A.csv", help="Results before the change.")],
    after: Annotated[Path, typer.Argument(metavar="B.csv", help="Results after it.")],
    fail_slower: Annotated[
        str | None, typer.Option(metavar="5%", help="Exit with code 1 if a kernel is surely slower by more than this.")
    ] = None,
    delta: Annotated[str, typer.Option(metavar="1%", help="A change counts only beyond this.")] = "1%",
    kernel: Annotated[
        list[str] | None, typer.Option(metavar="GLOB", help="Only these kernels; may be given several times.")
    ] = None,
    quantity: Annotated[str | None, typer.Option(help="Only this quantity.")] = None,
    format_: Annotated[Format, typer.Option("--format", help="How to print it.")] = Format.table,
    force: Annotated[
        bool, typer.Option("--force", help="Compare even across machines, dtypes, layouts, devices or threads.")
    ] = False,
) -> int:
    """Say for each kernel and case of two results files whether B is slower, faster or the same as A.

    Exit codes: 0 compared; 1 a proof failed, or --fail-slower found something; 2 bad usage or bad input.
    """
    threshold = None if fail_slower is None else fraction(fail_slower, "--fail-slower")
    least = fraction(delta, "--delta")
    sides = select([read(before), read(after)], kernel or [], quantity)
    comparison = compare_records(sides[0], sides[1], least, force, names=(str(before), str(after)))
    _show(comparison, format_)
    too_slow = threshold is not None and comparison.slower_than(threshold)
    return 1 if comparison.failures or too_slow else 0


def fraction(text: str, option: str) -> float:
    """The fraction that a person wrote as `5%` or `0.05`.

    Raises:
        ValueError: Anything else, also a bare number from 1 up, which could be meant either way.
    """
    number = text.strip().removesuffix("%")
    try:
        value = float(number) / (100 if number != text.strip() else 1)
    except ValueError:
        value = math.nan
    if number == text.strip() and value >= 1:
        raise ValueError(f"{option} {text} could mean {text}% or {text} times; write {text}% or a fraction below 1")
    if not 0 <= value < math.inf:
        raise ValueError(f"{option} is {text!r}; write a percentage such as 5% or a fraction such as 0.05")
    return value


def _show(comparison: Comparison, format_: Format) -> None:
    """Print it; CSV and JSON have standard output to themselves."""
    shown = {Format.table: table, Format.markdown: markdown, Format.csv: as_csv, Format.json: as_json}
    sys.stdout.write(shown[format_](comparison))
    if format_ is Format.table:
        print("", *summary(comparison), sep="\n")
    elif format_ is not Format.markdown:
        print(*summary(comparison), sep="\n", file=sys.stderr)
