"""Where, when and with what the sources were measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gradkernels.bench.report.page.sources import ReportSource
from gradkernels.names import counted
from gradkernels.record import Record


@dataclass(frozen=True)
class Provenance:
    """What the rows of a source say of their making, each in words; several values are separated by semicolons.

    Attributes:
        label: The source.
        commit: Of the checkout.
        when: From the first start of a measuring process to the last.
        size: Rows, runs and passes.
        machine: Kind of machine, processor and cores.
        system: Operating system and Python.
        versions: Of the array libraries.
    """

    label: str
    commit: str
    when: str
    size: str
    machine: str
    system: str
    versions: str


def provenance(source: ReportSource) -> Provenance:
    """Return what the rows of a source say of their making."""
    rows = source.records
    passes = {row.pass_id for row in rows}
    sizes = (counted(len(rows), "row"), counted(len({run for run, _ in passes}), "run"), counted(len(passes), "pass"))
    return Provenance(
        label=source.label,
        commit=source.commit or "not known",
        when=_span(source),
        size=", ".join(sizes),
        machine=_values(source, lambda row: f"{row.machine} ({row.cpu}, {counted(row.cores, 'core')})"),
        system=_values(source, lambda row: f"{row.os}, Python {row.python}"),
        versions=_values(source, lambda row: row.versions),
    )


def minute(started: str) -> str:
    """Return `2026-11-24 15:24` of a time in ISO 8601."""
    return started[:16].replace("T", " ")


def _span(source: ReportSource) -> str:
    ends = sorted({minute(row.started) for row in source.records if row.started})
    if not ends:
        return "not known"
    return f"{ends[0]} UTC" if len(ends) == 1 else f"{ends[0]} to {ends[-1]} UTC"


def _values(source: ReportSource, value: Callable[[Record], str]) -> str:
    return "; ".join(dict.fromkeys(map(value, source.records)))
