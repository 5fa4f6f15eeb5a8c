"""The results that asv keeps of a commit: its `time_` benchmarks, a case for each combination of parameters."""

from __future__ import annotations

import ast
import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any

from gradkernels.bench.results.functions import sized
from gradkernels.bench.results.imported import (
    FunctionTime,
    ImportedBenchmarks,
    ImportedFile,
    function_records,
    moment,
)
from gradkernels.bench.results.json_values import json_or, json_value
from gradkernels.dispatch.machine import kind_of_machine

_TIMED = ("time_", "timeraw_", "Time", "TimeRaw")
"""How asv tells benchmarks that measure seconds by their names."""


def recognises(document: dict[str, Any]) -> bool:
    """Tell whether it is a file of `results/MACHINE/COMMIT-ENVIRONMENT.json`."""
    return {"commit_hash", "results"} <= document.keys()


def read(file: ImportedFile) -> ImportedBenchmarks:
    """Make records of a file.

    Raises:
        ValueError: A benchmark lacks something, or a time is none; names file, benchmark and key.
    """
    columns = json_value(file.document, "result_columns", "list", f"{file.path}, of asv's format 2")
    found: list[FunctionTime] = []
    skipped: dict[str, str] = {}
    for name, row in json_value(file.document, "results", "dict", str(file.path)).items():
        if not name.rpartition(".")[2].startswith(_TIMED):
            skipped[name] = "it does not measure time"
        else:
            found += _functions(name, dict(zip(columns, row if isinstance(row, list) else [], strict=False)), file)
    return ImportedBenchmarks(function_records("asv", _facts(file), found), skipped)


def _functions(name: str, row: Mapping[str, Any], file: ImportedFile) -> Iterator[FunctionTime]:
    """Yield what is known of a benchmark for each combination of its parameters; what was skipped has no row."""
    own = name.rpartition(".")[2]
    axes = [axis for axis in json_or(row, "params", "list", []) if isinstance(axis, list)]
    combinations = list(itertools.product(*axes))
    results = json_or(row, "result", "list", [None] * len(combinations))
    for place, (seconds, values) in enumerate(zip(results, combinations, strict=False)):
        parameters = {f"param{number}": _value(text) for number, text in enumerate(values, 1)}
        whole, n = sized(name, parameters)
        if seconds is None:
            yield FunctionTime(whole, own, {}, n or 1, pass_=file.pass_, failed="asv has null for it: it failed")
        elif not (isinstance(seconds, float) and math.isnan(seconds)):
            times = _times(row, place, f"{file.path}, {name}")
            yield FunctionTime(whole, own, times, n or 1, pass_=file.pass_)


def _times(row: Mapping[str, Any], place: int, where: str) -> dict[str, Any]:
    def number(column: str, kind: str) -> Any:
        of_each = json_or(row, column, "list", [])
        value = of_each[place] if place < len(of_each) else None
        return None if value is None else json_value({column: value}, column, kind, where)

    return {
        "seconds_median": number("result", "float"),
        "seconds_q25": number("stats_q_25", "float"),
        "seconds_q75": number("stats_q_75", "float"),
        "rounds": number("stats_repeat", "int"),
        "iterations": number("stats_number", "int"),
    }


def _value(text: Any) -> Any:
    """Return a parameter, of which asv keeps the repr."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text


def _facts(file: ImportedFile) -> dict[str, Any]:
    told = json_or(file.document, "params", "dict", {})
    cpu, cores = (json_or(told, name, "str", "") for name in ("cpu", "num_cpu"))
    system, architecture, python = (json_or(told, name, "str", "") for name in ("os", "arch", "python"))
    return {
        "run": file.run,
        "started": moment(_started(file.document)),
        "machine": kind_of_machine(cpu, f"{cores}c", system.partition(" ")[0], architecture),
        "cpu": cpu,
        "cores": int(cores) if cores.isdecimal() and int(cores) else 1,
        "os": system,
        "python": python if python[:1].isdecimal() else "",  # an environment that was there has the path of its Python
        "commit": json_or(file.document, "commit_hash", "str", "")[:12],
    }


def _started(document: Mapping[str, Any]) -> Any:
    """Return when the first benchmark started; the date that the file gives is that of the commit."""
    columns = document["result_columns"]
    place = columns.index("started_at") if "started_at" in columns else len(columns)
    rows = [row for row in document["results"].values() if isinstance(row, list)]
    moments = [row[place] for row in rows if place < len(row) and isinstance(row[place], int | float)]
    return min(moments, default="")
