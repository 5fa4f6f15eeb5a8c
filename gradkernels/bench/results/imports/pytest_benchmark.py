"""pytest-benchmark's saved JSON: kernels with their proofs as the session writes them, and any other function."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gradkernels.bench.results.functions import benchmark_names
from gradkernels.bench.results.imported import (
    FunctionTime,
    ImportedBenchmarks,
    ImportedFile,
    function_records,
    moment,
)
from gradkernels.bench.results.json_values import json_or, json_value
from gradkernels.dispatch.machine import kind_of_machine
from gradkernels.record import COLUMNS, DERIVED, KINDS, SCHEMA, Record, Status

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
NEVER = ("peak_bytes", "least_bytes", "limit_seconds", *DERIVED)
INFO = tuple(name for name in COLUMNS if name not in (*STATISTICS, *FROM_MACHINE, *NEVER))
"""Columns that a benchmark carries in its `extra_info`, because pytest-benchmark has no place for them."""

_COLUMN_KINDS = {name: kind.partition(" | ")[0] for name, kind in KINDS.items()}


def extra_info(columns: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `read` needs of a row besides what pytest-benchmark saves by itself."""
    return {name: columns[name] for name in INFO}


def statistics(stats: Any) -> dict[str, Any]:
    """Return the columns that pytest-benchmark measures, from anything that has its statistics by name."""
    return {column: stats[name] for column, name in STATISTICS.items()}


def recognises(document: dict[str, Any]) -> bool:
    """Tell whether it is a file of `--benchmark-json` or `--benchmark-save`."""
    return bool({"machine_info", "commit_info"} & document.keys())


def read(file: ImportedFile) -> ImportedBenchmarks:
    """Make records of a file.

    Raises:
        ValueError: A benchmark lacks something; names file, benchmark and key.
    """
    path, saved = file.path, file.document
    records: list[Record] = []
    functions: list[FunctionTime] = []
    skipped: dict[str, str] = {}
    for benchmark in json_value(saved, "benchmarks", "list", str(path)):
        name = json_value(benchmark, "fullname", "str", f"{path}, a benchmark")
        info = json_value(benchmark, "extra_info", "dict", f"{path}, {name}")
        if _ours(info):
            stats = json_value(benchmark, "stats", "dict", f"{path}, {name}")
            machine = _machine(saved, str(path)) | {"pass": file.pass_, "status": Status.ok}
            records.append(_record(info, stats, machine, f"{path}, {name}"))
        elif isinstance(benchmark.get("stats"), dict):
            functions.append(_function(benchmark, name, file))
        else:
            skipped[name] = "it has no times"
    return ImportedBenchmarks(records + function_records("pytest-benchmark", _facts(file), functions), skipped)


def _ours(info: Mapping[str, Any]) -> bool:
    """Return whether gradkernels wrote it, even if something is missing now; others may use a name or two as well."""
    return 2 * len(info.keys() & set(INFO)) > len(INFO)


def _times(stats: Any, where: str) -> dict[str, Any]:
    times = {
        column: json_value(stats, name, _COLUMN_KINDS[column], f"{where}, stats") for column, name in STATISTICS.items()
    }
    if not times["seconds_min"] <= times["seconds_q25"] <= times["seconds_median"] <= times["seconds_q75"]:
        raise ValueError(f"{where}, stats: min, q1, median and q3 are not in this order")
    return times


def _record(info: Any, stats: Any, machine: Mapping[str, Any], where: str) -> Record:
    if (schema := json_value(info, "schema", "int", f"{where}, extra_info")) not in range(1, SCHEMA + 1):
        raise ValueError(f"{where}: schema {schema}, but this gradkernels knows {SCHEMA}; use the one that timed it")
    known = {name: json_value(info, name, _COLUMN_KINDS[name], f"{where}, extra_info") for name in INFO}
    times = _times(stats, where)
    try:
        return Record.of({**machine, **known, **times, "schema": SCHEMA})
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _machine(saved: Any, where: str) -> dict[str, Any]:
    """Return columns from what pytest-benchmark says of the machine and of the checkout that it ran in."""
    info = json_value(saved, "machine_info", "dict", where)
    inside = f"{where}, machine_info"
    commit = json_value(saved, "commit_info", "dict", where)
    return {
        "cores": json_value(json_value(info, "cpu", "dict", inside), "count", "int", f"{inside}.cpu"),
        "os": f"{json_value(info, 'system', 'str', inside)} {json_value(info, 'release', 'str', inside)}",
        "python": json_value(info, "python_version", "str", inside),
        "commit": _commit(json_value(commit, "id", "str", f"{where}, commit_info"), commit),
    }


def _commit(full: str, info: Mapping[str, Any]) -> str:
    if full in ("unversioned", "unknown", ""):
        return ""
    return full[:12] + ("+" if info.get("dirty") else "")


def _facts(file: ImportedFile) -> dict[str, Any]:
    """Return what the file says of where and when, for functions: whatever it does not say is left open."""
    info, commit = (json_or(file.document, name, "dict", {}) for name in ("machine_info", "commit_info"))
    cpu = json_or(info, "cpu", "dict", {})
    brand = json_or(cpu, "brand_raw", "str", "") or json_or(cpu, "brand", "str", "")
    cores = max(1, json_or(cpu, "count", "int", 1))
    system, architecture = (json_or(info, name, "str", "") for name in ("system", "machine"))
    return {
        "run": file.run,
        "started": moment(file.document.get("datetime", "")),
        "machine": kind_of_machine(brand, f"{cores}c", system, architecture),
        "cpu": brand,
        "cores": cores,
        "os": f"{system} {json_or(info, 'release', 'str', '')}".strip(),
        "python": json_or(info, "python_version", "str", ""),
        "commit": _commit(json_or(commit, "id", "str", ""), commit),
    }


def _function(benchmark: Any, name: str, file: ImportedFile) -> FunctionTime:
    """Return what is known of a benchmark of something else than a kernel."""
    parameters = json_or(benchmark, "params", "dict", {})
    test, own, n = benchmark_names(name, str(benchmark.get("param")), parameters)
    times = _times(benchmark["stats"], f"{file.path}, {name}")
    return FunctionTime(test, own, times, n, pass_=file.pass_)
