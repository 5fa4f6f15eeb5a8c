"""A row of `results/scale.csv`, for the benches that write into it."""

from __future__ import annotations

from dataclasses import dataclass
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
