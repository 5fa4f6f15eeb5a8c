"""Rows of functions that another tool has timed, by the rules of every results file."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from gradkernels.bench.results.functions import FUNCTION, function_case, function_key
from gradkernels.record import SCHEMA, Measurement, Record, Status


@dataclass(frozen=True)
class ImportedFile:
    """A file to import.

    Attributes:
        path: Where it is.
        document: The JSON in it.
        run: A name made of what it holds, the same for the same file: it is imported once.
        pass_: The pass that it becomes, where it is one.
    """

    path: Path
    document: Any
    run: str
    pass_: int = 1


@dataclass(frozen=True)
class ImportedBenchmarks:
    """What one file gave.

    Attributes:
        records: One per benchmark and pass.
        skipped: Names of the benchmarks of which there are none, and why.
    """

    records: list[Record]
    skipped: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class FunctionTime:
    """What a tool says of one function in one process.

    Attributes:
        name: What tells it apart in the file, without the parameter that n is.
        function: Its own name, for tables.
        times: Columns of a Measurement, in seconds per call; empty where it has no time.
        n: Size of its input.
        threads: It ran on.
        pass_: Number of its process.
        failed: Why it has no time.
    """

    name: str
    function: str
    times: Mapping[str, float | int | None]
    n: int = 1
    threads: int = 1
    pass_: int = 1
    failed: str = ""


def run_name_of(content: bytes) -> str:
    """Return a name for what a file holds; like those of runs it begins with a letter."""
    return "f" + hashlib.sha256(content).hexdigest()[:11]


def function_records(tool: str, facts: Mapping[str, Any], found: Iterable[FunctionTime]) -> list[Record]:
    """Return the rows of functions.

    Args:
        tool: Who timed them.
        facts: The columns from `run` to `commit` that are known.
        found: The functions.

    Raises:
        ValueError: A time cannot be one; names the function.
    """
    unknown = {"started": "", "machine": "unknown", "cpu": "", "cores": 1, "os": "", "python": "", "commit": ""}
    known = {**unknown, "versions": "", **facts, "schema": SCHEMA, "parameters": 0, "seed": 0}
    return [_record(tool, known, one) for one in found]


def _record(tool: str, facts: Mapping[str, Any], one: FunctionTime) -> Record:
    key = function_key(re.sub(r"\W+", "_", one.function).strip("_") or "unnamed")
    case = function_case(one.name, one.n, one.threads)
    try:
        if one.failed:
            measurement = Measurement(key, FUNCTION, Status.failed, one.failed)
        else:
            told = f"timed by {tool}, without a proof"
            measurement = Measurement(key, FUNCTION, Status.ok, told, 0.0, 0.0, **_in_order(one.times))
    except ValueError as error:
        raise ValueError(f"{one.name}: {error}") from None
    return Record(**facts, case=case, pass_=one.pass_, measurement=measurement)


def _in_order(times: Mapping[str, Any]) -> dict[str, Any]:
    """Return times of which none is above the next: a tool may take its quartiles otherwise than its median."""
    median = times["seconds_median"]
    low = {name: times.get(name) for name in ("seconds_min", "seconds_q25")}
    high = times.get("seconds_q75")
    kept = {name: min(value, median) for name, value in low.items() if value is not None}
    if len(kept) == 2:
        kept["seconds_min"] = min(kept.values())
    return {**times, **kept, "seconds_q75": None if high is None else max(high, median)}


def spread_of(seconds: Sequence[float], iterations: int) -> dict[str, float | int]:
    """Return the columns of several times per call that one process took.

    Args:
        seconds: At least one.
        iterations: Calls behind each.
    """
    low, q25, median, q75 = (float(np.quantile(seconds, share)) for share in (0, 0.25, 0.5, 0.75))
    times = {"seconds_min": low, "seconds_q25": q25, "seconds_median": median, "seconds_q75": q75}
    return {**times, "rounds": len(seconds), "iterations": max(1, iterations)}


def moment(text: object) -> str:
    """Return a date that a tool wrote as files of results have it, UTC where it says its zone; else as it stands."""
    try:
        if isinstance(text, int | float):  # milliseconds since 1970, as asv has them
            return datetime.fromtimestamp(text / 1000, UTC).isoformat(timespec="seconds")
        found = datetime.fromisoformat(str(text))
    except (ValueError, OverflowError, OSError):
        return str(text)
    return (found.astimezone(UTC) if found.tzinfo else found).isoformat(timespec="seconds")
