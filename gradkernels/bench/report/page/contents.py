"""All that a page shows: values for its template, and what its script draws from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gradkernels.bench.report.page.calls import winners_by_calls
from gradkernels.bench.report.page.families import Family, families
from gradkernels.bench.report.page.history import Step, steps
from gradkernels.bench.report.page.overview import FamilyBlock, WinCount, family_blocks, win_counts
from gradkernels.bench.report.page.provenance import Provenance, provenance
from gradkernels.bench.report.page.script_data import PAGE_COORDINATES, ScriptData, coordinate, script_data
from gradkernels.bench.report.page.sources import ReportSource, newest
from gradkernels.bench.results.table import tabulate
from gradkernels.bench.run.ranking import rankings

FILTERS = ("problem", "quantity", "dtype", "threads")
"""What a reader is always told and can choose by; by the other coordinates where they vary."""


@dataclass(frozen=True)
class PageContents:
    """What a page shows.

    Attributes:
        wins: How often each way wins.
        cases: How many cases there are.
        blocks: The tables of winners, proofs and refusals.
        filters: What a reader can choose by: name, and the values that there are.
        sources: Where the rows come from.
        steps: What changed from one source to another.
        script: What the script draws from.
    """

    wins: tuple[WinCount, ...]
    cases: int
    blocks: tuple[FamilyBlock, ...]
    filters: tuple[tuple[str, tuple[str, ...]], ...]
    sources: tuple[Provenance, ...]
    steps: tuple[Step, ...]
    script: ScriptData


def page_contents(sources: Sequence[ReportSource]) -> PageContents:
    """Return what a page shows of some sources.

    Raises:
        ValueError: None of them has a proven time.
    """
    rows = newest(sources)
    table = tabulate(rows)
    if not table.timed.any():
        names = ", ".join(source.label for source in sources) or "this"
        raise ValueError(f"{names} has no proven time; measure with `gradkernels run`")
    ranked = rankings(table, growths=False)
    found = families(rows, ranked, winners_by_calls(table))
    changes = steps(sources)
    return PageContents(
        wins=tuple(win_counts(found)),
        cases=len(ranked),
        blocks=tuple(family_blocks(found)),
        filters=tuple(_filters(found)),
        sources=tuple(map(provenance, sources)),
        steps=tuple(changes),
        script=script_data(sources, found, changes),
    )


def _filters(found: Sequence[Family]) -> list[tuple[str, tuple[str, ...]]]:
    values = {name: tuple(dict.fromkeys(coordinate(family, name) for family in found)) for name in PAGE_COORDINATES}
    return [(name, own) for name, own in values.items() if name in FILTERS or len(own) > 1]
