"""Google Benchmark's JSON: real time per iteration; repetitions, which one process makes, are the spread of a pass."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gradkernels.bench.results.imported import (
    FunctionTime,
    ImportedBenchmarks,
    ImportedFile,
    function_records,
    moment,
    spread_of,
)
from gradkernels.bench.results.json_values import json_or, json_value
from gradkernels.dispatch.machine import kind_of_machine

_SECONDS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0}


def recognises(document: dict[str, Any]) -> bool:
    """Tell whether it is a file of `--benchmark_out` or `--benchmark_format=json`."""
    return isinstance(document.get("context"), dict) and isinstance(document.get("benchmarks"), list)


def read(file: ImportedFile) -> ImportedBenchmarks:
    """Make records of a file.

    Raises:
        ValueError: A benchmark lacks something, or a time is none; names file, benchmark and key.
    """
    rows: dict[str, list[dict[str, Any]]] = {}
    for benchmark in json_value(file.document, "benchmarks", "list", str(file.path)):
        name = json_value(benchmark, "name", "str", f"{file.path}, a benchmark")
        rows.setdefault(json_or(benchmark, "run_name", "str", name), []).append(benchmark)
    found: list[FunctionTime] = []
    skipped: dict[str, str] = {}
    for name, own in rows.items():
        if time := _function(name, own, file):
            found.append(time)
        else:
            skipped[name] = "it has neither times nor their median"
    return ImportedBenchmarks(function_records("Google Benchmark", _facts(file), found), skipped)


def _function(name: str, rows: list[dict[str, Any]], file: ImportedFile) -> FunctionTime | None:
    """Return what is known of the benchmark of a name, of all its repetitions together."""
    where = f"{file.path}, {name}"
    plain, n = _sized(name)
    threads = max(1, json_or(rows[0], "threads", "int", 1))
    failed = next((row for row in rows if row.get("error_occurred")), None)
    if failed is not None:
        why = json_or(failed, "error_message", "str", "") or "it says that an error occurred"
        return FunctionTime(plain, plain.partition("/")[0], {}, n, threads, file.pass_, why)
    single = [row for row in rows if row.get("run_type", "iteration") == "iteration"]
    chosen = single or [row for row in rows if row.get("aggregate_name") == "median"]
    if not chosen:
        return None
    calls = json_or(chosen[0], "iterations", "int", 1) if single else 1
    times = spread_of([_seconds(row, where) for row in chosen], calls)
    return FunctionTime(plain, plain.partition("/")[0], times, n, threads, file.pass_)


def _seconds(row: Mapping[str, Any], where: str) -> float:
    unit = row.get("time_unit", "ns")
    if unit not in _SECONDS:
        raise ValueError(f"{where}: 'time_unit' is {unit!r}, expected one of {', '.join(_SECONDS)}")
    seconds: float = json_value(row, "real_time", "float", where) * _SECONDS[unit]
    return seconds


def _sized(name: str) -> tuple[str, int]:
    """Return a name without its argument, and the argument: `BM_sort/1024` has one, `BM_copy/2/8` has no single one."""
    parts = name.split("/")
    numbers = [part for part in parts[1:] if part.isdecimal() and int(part)]
    if len(numbers) != 1:
        return name, 1
    parts.remove(numbers[0])
    return "/".join(parts), int(numbers[0])


def _facts(file: ImportedFile) -> dict[str, Any]:
    context = json_or(file.document, "context", "dict", {})
    cores = max(1, json_or(context, "num_cpus", "int", 1))
    # It names no processor: its caches tell more than its clock, which is never twice the same.
    caches = [
        f"l{cache.get('level')} {json_or(cache, 'size', 'int', 0) // 1024}k"
        for cache in json_or(context, "caches", "list", [])
        if isinstance(cache, dict)
    ]
    version = json_or(context, "library_version", "str", "")
    return {
        "run": file.run,
        "started": moment(context.get("date", "")),
        "machine": kind_of_machine(f"{cores}c", *caches),
        "cores": cores,
        "versions": f"google-benchmark={version}" if version else "",
    }
