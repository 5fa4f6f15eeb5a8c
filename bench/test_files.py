"""What reading large files of results costs: `compare` and `fastest`, each in a process of its own.

`pytest bench/test_files.py -s` prints seconds and memory for 10^5 and 10^6 rows, in some minutes.
"""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path

import pytest

REFERENCE = Path(__file__).parents[1] / "results" / "reference.csv"
MB = 1e6


def write(path, rows, first):
    """Write a file of runs like the reference's, of which each has a name of its own."""
    header, *lines = REFERENCE.read_text().splitlines(keepends=True)
    (run,) = {row["run"] for row in csv.DictReader([header, *lines])}
    runs = -(-rows // len(lines))
    names = (f"{number:012x}" for number in range(first, first + runs))
    with path.open("w") as file:
        file.write(header)
        file.writelines(islice((line.replace(run, name, 1) for name in names for line in lines), rows))


def measured(*arguments):
    """Run a command; return its seconds, those of the processor and its peak memory in bytes."""
    begin = time.perf_counter()
    with open(os.devnull, "w") as nowhere:
        process = subprocess.Popen([sys.executable, "-m", "gradkernels", *arguments], stdout=nowhere, stderr=nowhere)
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode in (0, 5)
    return time.perf_counter() - begin, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024


def show(what, seconds, processor, peak):
    print(f"{what} takes {seconds:.1f} s, {processor:.1f} s of the processor and {peak / MB:.0f} MB")


@pytest.mark.parametrize("rows", [10**5, 10**6])
def test_time_and_memory(tmp_path, rows):
    halves = [tmp_path / "before.csv", tmp_path / "after.csv"]
    for number, half in enumerate(halves):
        write(half, rows // 2, 10**6 * number)
    files = [str(half) for half in halves]
    print()
    show(f"{REFERENCE.name}: fastest", *measured("fastest", str(REFERENCE)))
    for command in (["compare", *files], ["fastest", *files]):
        *seconds, peak = measured(*command)
        show(f"{rows:,} rows: {command[0]}", *seconds, peak)
        assert peak < 300 * MB
