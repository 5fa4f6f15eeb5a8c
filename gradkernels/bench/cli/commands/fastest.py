"""`gradkernels fastest`: which kernel wins where, by how much, and why not the others."""

from __future__ import annotations

import sys
from collections.abc import Container, Iterable
from dataclasses import replace
from pathlib import Path

from gradkernels.bench.cli import options, parse
from gradkernels.bench.cli.options import Format
from gradkernels.bench.report.ranking_table import as_csv, as_json, markdown
from gradkernels.bench.report.ranking_text import show_ranking
from gradkernels.bench.results.reader import read_results
from gradkernels.bench.run.ranking import CaseRanking, rankings, with_first_calls
from gradkernels.bench.run.recalled import known
from gradkernels.dispatch import wisdom
from gradkernels.dispatch.machine import machine
from gradkernels.key import Key, matching, split_patterns
from gradkernels.record import Record, Status, read


def fastest(
    files: options.RankedFiles = None,
    quantity: options.QuantityNames = "all",
    kernel: options.KernelGlobs = None,
    calls: options.FastestCalls = None,
    save: options.Save = False,
    force: options.ForceSave = False,
    format_: options.PrintedKernels = Format.table,
    wide: options.Wide = False,
) -> None:
    """Say which kernel wins where, by how much, and why not the others."""
    wanted = parse.chosen_quantities(quantity)
    if save and not files:
        raise ValueError("--save needs a results file: gradkernels fastest results.csv --save")
    if force and not save:
        raise ValueError("--force is about what --save may save; give both or neither")
    every = format_ in (Format.csv, Format.json)
    ranking = _measured(files, kernel or [], calls, every) if files else _known(kernel or [], calls)
    if not (shown := [one for one in ranking if one.case.quantity in wanted]):
        found = ", ".join(dict.fromkeys(one.case.quantity for one in ranking)) or "nothing"
        raise ValueError(f"nothing is known of --quantity {quantity} there, only of {found}")
    print_ranking(shown, format_, wide)
    if save:
        _save(files or [], wanted, kernel or [], force)


def print_ranking(ranking: list[CaseRanking], format_: Format, wide: bool) -> None:
    """Print who wins where.

    Args:
        ranking: Of every case.
        format_: How to print it.
        wide: Whether tables have all columns, however wide they get.
    """
    if format_ is Format.table:
        show_ranking(ranking, wide=wide)
        return
    writers = {Format.markdown: markdown, Format.csv: as_csv, Format.json: as_json}
    sys.stdout.write(parse.chosen_writer(format_, writers)(ranking))


def _shown(records: list[Record], quantities: Container[str], patterns: list[str]) -> list[Record]:
    """Return the rows that were printed, and the conversions that their costs hold.

    Args:
        records: Of all files.
        quantities: That were asked for.
        patterns: Of keys, that were asked for.

    Raises:
        ValueError: None of them has a time.
    """
    kernels = _chosen(patterns, (row.kernel for row in records))
    rows = [row for row in records if row.case.quantity in quantities]
    rows = [row for row in rows if row.kernel in kernels or not Key.parse(row.kernel).competes]
    if not any(row.measurement.status == Status.ok and row.kernel in kernels for row in rows):
        raise ValueError("nothing is saved: none of these kernels has a proven time for these quantities")
    return rows


def _save(files: list[Path], quantities: Container[str], patterns: list[str], force: bool) -> None:
    """Make it this machine's choice.

    Args:
        files: What was measured.
        quantities: That were asked for.
        patterns: Of keys, that were asked for.
        force: Whether another machine may have measured.
    """
    rows = {file: read(file) for file in files}
    records = _shown([row for of_file in rows.values() for row in of_file], quantities, patterns)
    elsewhere = {row.machine for row in records} - {machine()}
    if elsewhere and not force:
        raise ValueError(
            f"measured on {', '.join(sorted(elsewhere))}, this is {machine()}; --force saves it all the same"
        )
    path = wisdom.save(wisdom.learn(records, {row.run: file.name for file, of_file in rows.items() for row in of_file}))
    print(f"saved as this machine's choice in {path}", file=sys.stderr)


def _measured(files: list[Path], patterns: list[str], calls: int | None, growths: bool) -> list[CaseRanking]:
    table = read_results(files)
    if not table.timed.any():
        raise ValueError(f"{', '.join(map(str, files))} has no proven time; measure with `gradkernels run`")
    wanted = _chosen(patterns, table.used("kernel"))
    table = table[table.where("kernel", wanted.__contains__)]  # and the memory of the others is free
    return rankings(with_first_calls(table, calls), growths)


def _known(patterns: list[str], calls: int | None) -> list[CaseRanking]:
    """Rank by saved wisdom, else by the shipped table; without passes there are no intervals."""
    table = wisdom.saved() or wisdom.shipped()
    wanted = _chosen(patterns, (key for entry in table for key in entry.curves))
    source = "this machine's saved wisdom" if wisdom.saved() else "the table shipped with gradkernels, a hint"
    print(f"from {source}", file=sys.stderr)
    curves = ({key: points for key, points in entry.curves.items() if key in wanted} for entry in table)
    return known(tuple(replace(entry, curves=kept) for entry, kept in zip(table, curves, strict=True)), calls)


def _chosen(patterns: list[str], keys: Iterable[str]) -> set[str]:
    return set(matching(split_patterns(patterns), (key for key in keys if Key.parse(key).competes)))
