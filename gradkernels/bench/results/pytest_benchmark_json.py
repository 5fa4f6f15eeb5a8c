"""pytest-benchmark's saved JSON, as records: the same rows that the session itself would have written."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from gradkernels.record import COLUMNS, KINDS, SCHEMA, Record, Status

STATISTICS = {
    "rounds": "rounds",
    "iterations": "iterations",
    "seconds_median": "median",
    "seconds_min": "min",
    "seconds_q25": "q1",
    "seconds_q75": "q3",
}
"""Columns and what pytest-benchmark calls them."""

FROM_MACHINE = ("cores", "os", "python", "commit", "pass", "status", "reason", "block")
NEVER = ("peak_bytes", "least_bytes", "limit_seconds")
INFO = tuple(name for name in COLUMNS if name not in (*STATISTICS, *FROM_MACHINE, *NEVER))
"""Columns that a benchmark carries in its `extra_info`, because pytest-benchmark has no place for them."""

_KINDS: dict[str, type] = {"int": int, "float": float, "str": str, "dict": dict, "list": list}
_NAMES = {"int": "a whole number", "float": "a number", "str": "text", "dict": "an object", "list": "a list"}
_COLUMN_KINDS = {name: kind.partition(" | ")[0] for name, kind in KINDS.items()}


@dataclass(frozen=True)
class ImportedBenchmarks:
    """What one file gave.

    Attributes:
        records: One per benchmark of a kernel.
        skipped: Names of the benchmarks of something else.
    """

    records: list[Record]
    skipped: list[str]


def extra_info(columns: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `read_benchmarks` needs of a row besides what pytest-benchmark saves by itself."""
    return {name: columns[name] for name in INFO}


def statistics(stats: Any) -> dict[str, Any]:
    """Return the columns that pytest-benchmark measures, from anything that has its statistics by name."""
    return {column: stats[name] for column, name in STATISTICS.items()}


def read_benchmarks(path: Path, pass_: int = 1) -> ImportedBenchmarks:
    """Read the records in a file of `--benchmark-json` or `--benchmark-save`.

    Args:
        path: The file.
        pass_: The pass that its records become: a file is one start of the process.

    Raises:
        ValueError: Not such a file, or a benchmark of a kernel lacks something; names file, benchmark and key.
        OSError: The file cannot be read.
    """
    saved = _load(path)
    machine = _machine(saved, str(path)) | {"pass": pass_, "status": Status.ok}
    records: list[Record] = []
    skipped: list[str] = []
    for benchmark in _get(saved, "benchmarks", "list", str(path)):
        name = _get(benchmark, "fullname", "str", f"{path}, a benchmark")
        info = _get(benchmark, "extra_info", "dict", f"{path}, {name}")
        if _ours(info):
            records.append(
                _record(info, _get(benchmark, "stats", "dict", f"{path}, {name}"), machine, f"{path}, {name}")
            )
        else:
            skipped.append(name)
    _refuse_repetition(records, path)
    return ImportedBenchmarks(records, skipped)


def _ours(info: Mapping[str, Any]) -> bool:
    """Return whether gradkernels wrote it, even if something is missing now; others may use a name or two as well."""
    return 2 * len(info.keys() & set(INFO)) > len(INFO)


def _load(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes().decode(), parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text at byte {error.start}; this is no pytest-benchmark file") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}, line {error.lineno}: not JSON ({error.msg}); is the file cut off?") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: {error}; this is no pytest-benchmark file") from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number that a time can be")


def _machine(saved: Any, where: str) -> dict[str, Any]:
    """Return columns from what pytest-benchmark says of the machine and of the checkout that it ran in."""
    info = _get(saved, "machine_info", "dict", where)
    inside = f"{where}, machine_info"
    commit = _get(saved, "commit_info", "dict", where)
    return {
        "cores": _get(_get(info, "cpu", "dict", inside), "count", "int", f"{inside}.cpu"),
        "os": f"{_get(info, 'system', 'str', inside)} {_get(info, 'release', 'str', inside)}",
        "python": _get(info, "python_version", "str", inside),
        "commit": _commit(commit, f"{where}, commit_info"),
    }


def _commit(info: Any, where: str) -> str:
    full = _get(info, "id", "str", where)
    if full in ("unversioned", "unknown"):
        return ""
    return full[:12] + ("+" if info.get("dirty") else "")


def _record(info: Any, stats: Any, machine: Mapping[str, Any], where: str) -> Record:
    if (schema := _get(info, "schema", "int", f"{where}, extra_info")) not in range(1, SCHEMA + 1):
        raise ValueError(f"{where}: schema {schema}, but this gradkernels knows {SCHEMA}; use the one that timed it")
    known = {name: _get(info, name, _COLUMN_KINDS[name], f"{where}, extra_info") for name in INFO}
    times = {column: _get(stats, name, _COLUMN_KINDS[column], f"{where}, stats") for column, name in STATISTICS.items()}
    if not times["seconds_min"] <= times["seconds_q25"] <= times["seconds_median"] <= times["seconds_q75"]:
        raise ValueError(f"{where}, stats: min, q1, median and q3 are not in this order")
    try:
        return Record.of({**machine, **known, **times, "schema": SCHEMA})
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _get(holder: Any, key: str, kind: str, where: str) -> Any:
    """Return `holder[key]`, which must be there, of that kind, and no negative, infinite or undefined number."""
    if not isinstance(holder, dict):
        raise ValueError(f"{where}: expected {_NAMES['dict']} with {key!r}; this is no pytest-benchmark file")
    if key not in holder:
        raise ValueError(f"{where}: {key!r} is missing")
    value = float(holder[key]) if kind == "float" and type(holder[key]) is int else holder[key]
    fits = type(value) is _KINDS[kind]  # isinstance would take true for a whole number
    if not fits:
        raise ValueError(f"{where}: {key!r} is {json.dumps(value)[:40]}, expected {_NAMES[kind]}")
    if kind in ("int", "float") and not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{where}: {key!r} is {value}, expected a finite number from 0")
    return value


def _refuse_repetition(records: list[Record], path: Path) -> None:
    seen = set()
    for record in records:
        if (what := (record.kernel, record.case)) in seen:
            case = record.case.described(" ")
            raise ValueError(f"{path}: {record.kernel} was timed twice on {case}; a pass has one time for each")
        seen.add(what)
