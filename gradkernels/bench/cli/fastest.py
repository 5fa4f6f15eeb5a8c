"""`gradkernels fastest`: which kernel wins where, by how much, and why not the others."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from gradkernels.bench.cli import options, parse
from gradkernels.bench.cli.run import show
from gradkernels.bench.report import ranking_table as winner_tables
from gradkernels.bench.report.comparison_table import Format
from gradkernels.bench.run.ranking import CaseRanking, known, rankings, weighed
from gradkernels.dispatch import wisdom
from gradkernels.dispatch.machine import machine
from gradkernels.record import Record, Status, read


def fastest(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Results files; without one, what this machine's wisdom says.")
    ] = None,
    quantity: options.Quantity = "all",
    calls: Annotated[
        int | None, typer.Option(min=1, help="How often it will be called, to weigh the first call. [default: many]")
    ] = None,
    save: Annotated[bool, typer.Option("--save", help="Make it this machine's choice.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Save even what another machine measured.")] = False,
    format: Annotated[Format, typer.Option(help="csv and json have a row for every kernel.")] = Format.table,
) -> None:
    """Say which kernel wins where, by how much, and why not the others."""
    wanted = parse.chosen_quantities(quantity)
    if save and not files:
        raise ValueError("--save needs a results file: gradkernels fastest results.csv --save")
    records = [row for file in files or [] for row in read(file)]
    if files and not any(row.measurement.status == Status.ok for row in records):
        raise ValueError(f"{', '.join(map(str, files))} has no proven time; measure with `gradkernels run`")
    ranking = [
        one for one in (rankings(weighed(records, calls)) if files else _known(calls)) if one.case.quantity in wanted
    ]
    _print(ranking, format)
    if save:
        _save(records, force)


def _print(ranking: list[CaseRanking], format: Format) -> None:
    if format is Format.table:
        show(ranking)
        return
    writer = {"markdown": winner_tables.markdown, "csv": winner_tables.as_csv, "json": winner_tables.as_json}
    sys.stdout.write(writer[format.value](ranking))


def _save(records: list[Record], force: bool) -> None:
    elsewhere = {row.machine for row in records} - {machine()}
    if elsewhere and not force:
        raise ValueError(
            f"measured on {', '.join(sorted(elsewhere))}, this is {machine()}; --force saves it all the same"
        )
    path = wisdom.save(wisdom.learn(records))
    print(f"saved as this machine's choice in {path}", file=sys.stderr)


def _known(calls: int | None) -> list[CaseRanking]:
    """The ranking in saved wisdom, else in the shipped table; without passes there are no intervals."""
    source = "this machine's saved wisdom" if wisdom.saved() else "the table shipped with gradkernels, a hint"
    print(f"from {source}", file=sys.stderr)
    return known(wisdom.saved() or wisdom.shipped(), calls)
