"""`gradkernels import`: what other tools have saved, as a results file."""

from __future__ import annotations

import sys
from pathlib import Path

from gradkernels.bench.cli import file_options
from gradkernels.bench.cli.files import require_output, write_whole
from gradkernels.bench.results.imported import ImportedBenchmarks
from gradkernels.bench.results.importing import read_imported
from gradkernels.names import counted, harmless
from gradkernels.record import HEADER, Record, line


def import_json(
    files: file_options.ImportedFiles,
    out: file_options.MadeFile,
    kind: file_options.ImportKind = None,
    force: file_options.ReplaceMade = False,
) -> None:
    """Turn what pytest-benchmark, pyperf, Google Benchmark or asv saved into a results file for compare and fastest.

    Kernels that the fixture gradkernels_benchmark timed keep their proofs. Any other benchmark becomes a function, of
    the problem function:NAME, and its rows say that nothing was proven.
    """
    require_output(out, files, force, "to import")
    imported = [_read(path, number, kind) for number, path in enumerate(files, 1)]
    _refuse_one_run_twice(files, imported)
    for path, one in zip(files, imported, strict=True):
        if not one.records:
            raise ValueError(f"nothing to import from {path}: {harmless(_skipped(one))}")
        if one.skipped:
            print(f"gradkernels: {path}: {_skipped(one)}", file=sys.stderr)
    records = [record for one in imported for record in one.records]
    _write(out, records)
    print(f"{out}: {counted(len(records), 'row')}, {counted(len({row.pass_id for row in records}), 'pass')}")


def _read(path: Path, number: int, kind: str | None) -> ImportedBenchmarks:
    try:
        return read_imported(path, number, kind)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from None


def _refuse_one_run_twice(files: list[Path], imported: list[ImportedBenchmarks]) -> None:
    """Raise for one run in two files: a pass is a start of its own, and its times would count twice."""
    first: dict[str, Path] = {}
    for path, one in zip(files, imported, strict=True):
        for run in {record.run for record in one.records}:
            if run in first:
                raise ValueError(f"{first[run]} and {path} hold the same run {run}; name it once")
            first[run] = path


def _skipped(one: ImportedBenchmarks) -> str:
    if not one.skipped:
        return "it holds no benchmarks"
    everything = counted(len(one.skipped) + len({(row.case, row.kernel) for row in one.records}), "benchmark")
    name, why = next(iter(one.skipped.items()))
    return f"skipped {len(one.skipped)} of {everything}, such as {name}: {why}"


def _write(out: Path, records: list[Record]) -> None:
    text = HEADER + "".join(line(record.columns().values()) for record in records)
    try:
        write_whole(out, text.encode(errors="replace"))
    except OSError as error:
        raise ValueError(f"{out}: cannot be written ({error.strerror})") from None
