"""A row of `results/scale.csv`, for the benches that write into it."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path

from gradkernels.dispatch.machine import machine

OUT = Path(__file__).parents[1] / "results" / "scale.csv"


@dataclass
class Figure:
    """A row of the file.

    Attributes:
        measure: What is measured.
        value: The figure.
        unit: Of it: `ratio`, `ms`, `GiB` or `s`.
        aim: What it is held against, such as `>= 1.8`; empty where it is there for comparison.
        gigabytes: Of rows in a pass, 10^9 bytes.
        blocks: Of a pass.
        workers: Processes.
        passes: Of which the figure is the median.
        machine: Kind of machine.
        started: When, UTC.
        command: That prints it.
    """

    measure: str
    value: float | str
    unit: str
    aim: str
    gigabytes: float
    blocks: int
    workers: int
    passes: int
    machine: str = machine()
    started: str = ""
    command: str = ""


def write_figures(out: Path, figures: Iterable[Figure], command: str) -> None:
    """Add figures to the file as they come, and print them.

    Args:
        out: The file; it may be there.
        figures: As they are measured.
        command: That measures them.
    """
    started = datetime.now(UTC).isoformat(timespec="seconds")
    with out.open("a", newline="") as file:
        writer = csv.DictWriter(file, [one.name for one in fields(Figure)], lineterminator="\n")
        if file.tell() == 0:
            writer.writeheader()
        for figure in figures:
            value = f"{figure.value:.4g}" if isinstance(figure.value, float) else figure.value
            writer.writerow(asdict(replace(figure, value=value, started=started, command=command)))
            file.flush()
            print(f"{figure.measure:50} {value:>8} {figure.unit:6} {figure.aim}", flush=True)
