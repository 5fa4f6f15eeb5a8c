"""What the files of many shards cost to put together: `python bench/sweep_files.py --shards 100`, into scale.csv.

Each shard's file is the reference run under a name of its own, so that its rows are real ones. Merging, and comparing
the merged file with itself, are timed in processes of their own, whose peak memory is told too.
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing
import resource
import sys
import tempfile
import time
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

from scale_rows import OUT, Figure, write_figures

from gradkernels.bench.cli import main as gradkernels

RESULTS = Path(__file__).parents[1] / "results"
RUN = 1
"""Position of the column with the run's name."""


def write_shards(folder: Path, count: int) -> list[Path]:
    """Write files of shards, each with the rows of the reference run; return their paths."""
    with (RESULTS / "reference.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    paths = [folder / f"part-{number}.csv" for number in range(1, count + 1)]
    for number, path in enumerate(paths, 1):
        with path.open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(header)
            writer.writerows(
                [*row[:RUN], f"a{number:011x}-{number}of{count}-0123abcd", *row[RUN + 1 :]] for row in rows
            )
    return paths


def costs(words: list[str]) -> tuple[float, int]:
    """Return the processor seconds of a command in a process of its own, and the process's peak memory in bytes."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_timed, (words,))


def _timed(words: list[str]) -> tuple[float, int]:
    start = time.process_time()  # of this process alone: the machine may have other work
    with redirect_stdout(StringIO()):
        code = gradkernels(words)
    assert code in (0, 5), code
    return time.process_time() - start, 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def measured(shards: int) -> list[Figure]:
    """Return the figures of so many shards."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = write_shards(folder, shards)
        rows = sum(path.read_bytes().count(b"\n") - 1 for path in paths)
        gigabytes = sum(path.stat().st_size for path in paths) / 1e9
        told = {"gigabytes": gigabytes, "blocks": shards, "workers": 1, "passes": 1}
        found = []
        merged = folder / "all.csv"
        commands = {"merge": ["merge", *map(str, paths), "-o", str(merged)], "compare": ["compare", *[str(merged)] * 2]}
        for command, words in commands.items():
            seconds, peak = costs(words)
            what = f"{command} files of {rows} rows"
            found.append(Figure(f"{what}, processor time of a row", 1e6 * seconds / rows, "µs", "", **told))
            found.append(Figure(f"{what}, peak memory", peak / 2**30, "GiB", "", **told))
        return found


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, and add to the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shards", type=int, default=100)
    parser.add_argument("--out", type=Path, default=OUT, help="the file; it is added to")
    given = parser.parse_args(arguments)
    write_figures(given.out, measured(given.shards), f"python bench/sweep_files.py --shards {given.shards}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
