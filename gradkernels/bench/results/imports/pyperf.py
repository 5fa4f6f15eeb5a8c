"""pyperf's JSON: every worker process that a benchmark was started in is a pass."""

from __future__ import annotations

import re
from collections.abc import Iterator
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


def recognises(document: dict[str, Any]) -> bool:
    """Tell whether it is a file of `pyperf`, whose benchmarks have runs."""
    benchmarks = json_or(document, "benchmarks", "list", [])
    return any(isinstance(json_or(one, "runs", "list", None), list) for one in benchmarks)


def read(file: ImportedFile) -> ImportedBenchmarks:
    """Make records of a file.

    Raises:
        ValueError: A benchmark lacks something, or a time is none; names file, benchmark and key.
    """
    common = json_or(file.document, "metadata", "dict", {})
    found: list[FunctionTime] = []
    skipped: dict[str, str] = {}
    for benchmark in json_value(file.document, "benchmarks", "list", str(file.path)):
        told = {**common, **json_or(benchmark, "metadata", "dict", {})}
        name = json_value(told, "name", "str", f"{file.path}, the metadata of a benchmark")
        if (unit := told.get("unit", "second")) != "second":
            skipped[name] = f"it measures in the unit {unit}"
        elif times := list(_passes(benchmark, told, f"{file.path}, {name}")):
            found += [FunctionTime(name, name, one, pass_=pass_) for pass_, one in enumerate(times, 1)]
        else:
            skipped[name] = "it has no times"
    return ImportedBenchmarks(function_records("pyperf", _facts(file), found), skipped)


def _passes(benchmark: Any, told: dict[str, Any], where: str) -> Iterator[dict[str, float | int]]:
    """Yield the times of each process that has any: the first only calibrates."""
    for run in json_value(benchmark, "runs", "list", where):
        own = {**told, **json_or(run, "metadata", "dict", {})}
        values = json_or(run, "values", "list", [])
        seconds = [json_value({"values": one}, "values", "float", where) for one in values]
        if seconds:
            yield spread_of(seconds, json_or(own, "loops", "int", 1) * json_or(own, "inner_loops", "int", 1))


def _facts(file: ImportedFile) -> dict[str, Any]:
    """Return what the first process says of where and when, in whichever of the places that pyperf has for it."""
    told: dict[str, Any] = {}
    place: Any = file.document
    for inner in ("benchmarks", "runs", ""):
        told |= json_or(place, "metadata", "dict", {})
        place = next(iter(json_or(place, inner, "list", [])), None)
    cpu, cores = json_or(told, "cpu_model_name", "str", ""), max(1, json_or(told, "cpu_count", "int", 1))
    platform = json_or(told, "platform", "str", "")
    architecture = re.search(r"x86_64|AMD64|aarch64|arm64|ppc64le|s390x|riscv64", platform)
    return {
        "run": file.run,
        "started": moment(told.get("date", "")),
        "machine": kind_of_machine(
            cpu, f"{cores}c", platform.partition("-")[0], architecture[0] if architecture else ""
        ),
        "cpu": cpu,
        "cores": cores,
        "os": platform,
        "python": json_or(told, "python_version", "str", "").partition(" ")[0],
        "versions": f"pyperf={told['perf_version']}" if "perf_version" in told else "",
    }
