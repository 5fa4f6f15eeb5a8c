"""Files of other tools, read by the module of the tool that wrote them."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from gradkernels.bench.results.import_kinds import import_kinds
from gradkernels.bench.results.imported import ImportedBenchmarks, ImportedFile, run_name_of
from gradkernels.bench.results.json_values import read_json
from gradkernels.names import pick
from gradkernels.record import Record


def read_imported(path: Path, pass_: int = 1, kind: str | None = None) -> ImportedBenchmarks:
    """Read the rows in a file that another tool saved.

    Args:
        path: The file.
        pass_: The pass that it becomes where it is one start of a process.
        kind: The tool; None for the one whose file it is by what it holds.

    Raises:
        ValueError: No file of a tool that is known, or something is missing in it; names file, benchmark and key.
        OSError: The file cannot be read.
    """
    document, content = read_json(path)
    file = ImportedFile(path, document, run_name_of(content), pass_)
    found: ImportedBenchmarks = _tool(file, kind).read(file)
    _refuse_repetition(found.records, path)
    return found


def _tool(file: ImportedFile, kind: str | None) -> Any:
    kinds = import_kinds()
    if kind is not None:
        return importlib.import_module(pick(kinds, kind, "kind of file"))
    tools = [importlib.import_module(module) for module in kinds.values()]
    found = [tool for tool in tools if isinstance(file.document, dict) and tool.recognises(file.document)]
    if len(found) != 1:
        raise ValueError(f"{file.path}: no file of {', '.join(kinds)} by what it holds; say which with --kind")
    return found[0]


def _refuse_repetition(records: list[Record], path: Path) -> None:
    seen = set()
    for record in records:
        if (what := (record.kernel, record.case, record.pass_)) in seen:
            case = record.case.described(" ")
            raise ValueError(f"{path}: {record.kernel} was timed twice on {case}; a pass has one time for each")
        seen.add(what)
