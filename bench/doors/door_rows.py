"""Rows of results/doors.csv: an example of another library through its door and as it is, in turns in one process."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from gradkernels.dispatch.machine import machine

OUT = Path(__file__).parents[2] / "results" / "doors.csv"
ROUNDS, LONGEST = 11, 10.0
"""Turns of both, and the seconds after which no further turn is begun once there are three."""

FEWEST = 3
"""Turns at least; and calls before them, unless these take half as long."""

SCRIPTS = {"linearmodels": "statsmodels"}
"""Of doors that have no script of their own."""


@dataclass(frozen=True)
class DoorRow:
    """A row of the file.

    Attributes:
        door: Module of `gradkernels.adapters`.
        library: Name and version of what it is a door to.
        example: What is computed.
        n: Number of samples.
        ratio: Median over turns of the time through the door over the library's own.
        seconds: Median through the door.
        seconds_own: Median of the library's own.
        disagreement: Largest difference of the results over the largest entry of the library's.
        rounds: Turns.
        machine: Kind of machine.
        started: When, UTC.
        command: That measures it.
    """

    door: str
    library: str
    example: str
    n: int
    ratio: float
    seconds: float
    seconds_own: float
    disagreement: float
    rounds: int
    machine: str
    started: str
    command: str


def compared(
    example: tuple[str, str, str, int], ours: Callable[[], Any], own: Callable[[], Any], disagreement: float
) -> DoorRow:
    """Time both in turns, after some calls of each, and print the row.

    Args:
        example: Door, library with version, what is computed, and number of samples.
        ours: Through the door.
        own: As the library does it.
        disagreement: Of their results.
    """
    started = datetime.now(UTC).isoformat(timespec="seconds")
    begun = time.perf_counter()
    for _ in range(FEWEST):  # a door's first calls choose a kernel
        ours(), own()
        if time.perf_counter() - begun > LONGEST / 2:
            break
    turns: list[tuple[float, float]] = []
    begun = time.perf_counter()
    while len(turns) < ROUNDS and (len(turns) < FEWEST or time.perf_counter() - begun < LONGEST):
        first, second = (ours, own) if len(turns) % 2 else (own, ours)
        pair = _seconds(first), _seconds(second)
        turns.append(pair if len(turns) % 2 else pair[::-1])
    ratio, seconds, own_seconds = (median(one) for one in zip(*((a / b, a, b) for a, b in turns), strict=True))
    door, library, what, n = example
    print(f"{door}: {what}, n = {n:,}: {ratio:.3f} of {library}'s time, disagreement {disagreement:.1g}")
    numbers = (float(f"{one:.5g}") for one in (ratio, seconds, own_seconds, disagreement))
    return DoorRow(
        door,
        library,
        what,
        n,
        *numbers,
        len(turns),
        machine(),
        started,
        f"python bench/doors {SCRIPTS.get(door, door)}",
    )


def write(rows: list[DoorRow]) -> None:
    """Put rows into the file, in place of those of the same example, size and machine."""
    names = [field.name for field in fields(DoorRow)]
    old = list(csv.DictReader(OUT.open(newline=""))) if OUT.exists() else []
    new = [{name: str(value) for name, value in asdict(row).items()} for row in rows]
    key = ("door", "example", "n", "machine")
    replaced = {tuple(row[name] for name in key) for row in new}
    kept = [row for row in old if tuple(row[name] for name in key) not in replaced]
    with OUT.open("w", newline="") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(sorted([*kept, *new], key=lambda row: (row["door"], row["example"], int(row["n"]))))


def _seconds(call: Callable[[], Any]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started
