"""`gradkernels import`: saved pytest-benchmark runs as a results file."""

from __future__ import annotations

import sys
from pathlib import Path

from gradkernels.bench.cli import options
from gradkernels.bench.cli.files import require_regular, write_whole
from gradkernels.bench.results.pytest_benchmark_json import ImportedBenchmarks, read_benchmarks
from gradkernels.names import counted
from gradkernels.record import HEADER, Record, line


def import_json(files: options.ImportedFiles, out: options.ImportOut, force: options.ImportForce = False) -> None:
    """Turn saved pytest-benchmark runs of kernels into a results file for compare and fastest."""
    _refuse_output(out, files, force)
    imported = [_read(path, number) for number, path in enumerate(files, 1)]
    _refuse_one_run_twice(files, imported)
    for path, one in zip(files, imported, strict=True):
        if not one.records:
            raise ValueError(f"nothing to import from {path}: {_skipped(one)}")
        if one.skipped:
            print(f"gradkernels: {path}: {_skipped(one)}", file=sys.stderr)
    records = [record for one in imported for record in one.records]
    _write(out, records)
    print(f"{out}: {counted(len(records), 'row')}, {counted(len(files), 'pass')}")


def _refuse_output(out: Path, files: list[Path], force: bool) -> None:
    require_regular(out, f"--out {out}")
    if any(out.resolve() == path.resolve() for path in files):
        raise ValueError(f"{out} is one of the files to import; --out must name another")
    if out.exists() and not force:
        raise ValueError(f"{out} is there already; name another file or replace it with --force")


def _read(path: Path, number: int) -> ImportedBenchmarks:
    try:
        return read_benchmarks(path, number)
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
    everything = counted(len(one.skipped) + len(one.records), "benchmark")
    return (
        f"skipped {len(one.skipped)} of {everything}, such as {one.skipped[0]}: "
        "not timed through the gradkernels_benchmark fixture, so without a proof"
    )


def _write(out: Path, records: list[Record]) -> None:
    text = HEADER + "".join(line(record.columns().values()) for record in records)
    try:
        write_whole(out, text.encode(errors="replace"))
    except OSError as error:
        raise ValueError(f"{out}: cannot be written ({error.strerror})") from None
