"""How often tools call identical code different: pytest-benchmark, pyperf's rule, and `gradkernels ab`.

    python bench/false_alarms.py --suites 10 --out results/false_alarms.csv [--resume]

A suite is three kernels and sizes, measured as a baseline and again right after it, by each tool in its own way:

- pytest-benchmark, really run twice with its defaults, `--benchmark-compare-fail=mean:5%` and `min:5%`;
- pyperf's defaults: 20 processes a side, in each a warm-up and three values of at least 0.1 s; `compare_to` calls
  two sides different by Student's two-sample t test at 95%;
- the duel behind `gradkernels ab`, in which a canary could only take alarms away.

One row per suite, kernel, size and rule; rows are written as they come, and --resume adds suites to a file.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from functools import partial
from pathlib import Path
from time import perf_counter

import numpy as np

from gradkernels.bench.isolation.environment import child_environment
from gradkernels.bench.timing.slices import time_slice
from gradkernels.case import Case
from gradkernels.problems import LinearRegression
from gradkernels.registry import kernel as kernel_by_key

SUITE = (("numpy.matmul.gradient", 10), ("numpy.broadcast.per_sample", 1000), ("numpy.matmul.gradient", 50_000))
COLUMNS = ("suite", "kernel", "n", "rule", "ratio", "different", "slower", "seconds")
LIMIT = 1.05
PROCESSES, VALUES, VALUE_SECONDS = 20, 3, 0.1

PYTEST_SUITE = """
import pytest
from false_alarms import SUITE, bound

@pytest.mark.parametrize(("key", "n"), SUITE)
def test_kernel(benchmark, key, n):
    benchmark(bound(key, n))
"""


def main():
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--suites", type=int, default=10, help="how many suites of three in the end")
    options.add_argument("--out", type=Path, default=Path("results/false_alarms.csv"))
    options.add_argument("--resume", action="store_true", help="go on with --out")
    options.add_argument("--values", nargs=3, metavar=("KERNEL", "N", "CALLS"), help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.values:
        return print(json.dumps(values(given.values[0], *map(int, given.values[1:]))))
    if given.out.exists() and not given.resume:
        options.error(f"{given.out} is there already; go on with --resume, or name another --out")
    for suite in range(done(given.out), given.suites):
        for rows in (pytest_benchmark, pyperf, ours):
            append(given.out, suite, rows())
        print(f"suite {suite + 1} of {given.suites}", file=sys.stderr, flush=True)
    return print(*summary(given.out), sep="\n")


def bound(key, n):
    """The kernel on drawn inputs, as a function without arguments."""
    case = Case(LinearRegression(), kernel_by_key(key).quantity, n)
    return partial(kernel_by_key(key).build(case.problem), *case.draw())


def pytest_benchmark():
    """Two runs, the second compared with the first; it fails on a slowdown, and either could have come second."""
    started = perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "test_suite.py").write_text(PYTEST_SUITE)
        before, after = (pytest_run(Path(folder), name) for name in ("before", "after"))
    seconds = (perf_counter() - started) / len(SUITE)
    for key, n in SUITE:
        for statistic in ("mean", "min"):
            ratio = after[key, n][statistic] / before[key, n][statistic]
            yield key, n, f"pytest-benchmark {statistic}:5%", ratio, max(ratio, 1 / ratio) > LIMIT, seconds


def pytest_run(folder, name):
    report = folder / f"{name}.json"
    here = {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"--benchmark-json={report}", "test_suite.py"]
    subprocess.run(command, cwd=folder, env={**child_environment(1), **here}, check=True, capture_output=True)
    found = json.loads(report.read_text())["benchmarks"]
    return {(one["params"]["key"], one["params"]["n"]): one["stats"] for one in found}


def pyperf():
    """Both sides one after the other, then the t test."""
    from scipy.stats import ttest_ind  # here, so that the processes that are timed start without it

    for key, n in SUITE:
        started = perf_counter()
        calls = str(calibrated(bound(key, n)))
        before, after = ([v for _ in range(PROCESSES) for v in measured(key, str(n), calls)] for _ in range(2))
        different = ttest_ind(before, after).pvalue < 0.05
        yield key, n, "pyperf compare_to", np.mean(after) / np.mean(before), different, perf_counter() - started


def calibrated(call):
    """Calls that take at least 0.1 s, a power of two."""
    calls = 1
    while time_slice(call, calls) * calls < VALUE_SECONDS:
        calls *= 2
    return calls


def measured(key, n, calls):
    command = [sys.executable, __file__, "--values", key, n, calls]
    done = subprocess.run(command, env=child_environment(1), check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def values(key, n, calls):
    """What one process of the t test's gives: a warm-up, and three values that count."""
    call = bound(key, n)
    return [time_slice(call, calls) for _ in range(1 + VALUES)][1:]


def ours():
    """One comparison of the selftest's."""
    from gradkernels.bench.ab.interleaved import Target
    from gradkernels.bench.ab.selftest import trial

    for key, n in SUITE:
        one = trial(Target(key, n))
        yield key, n, "gradkernels ab", one.ratio, one.different, one.seconds


def append(path, suite, rows):
    for row in rows:
        new = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            if new:
                writer.writerow(COLUMNS)
            key, n, rule, ratio, different, seconds = row
            slower = int(different and ratio > 1)
            writer.writerow([suite, key, n, rule, f"{ratio:.6f}", int(different), slower, f"{seconds:.2f}"])


def done(path):
    """How many suites are whole; rows of one that was cut off are taken out."""
    if not path.exists():
        return 0
    header, *rows = path.read_text().splitlines(keepends=True)
    each = len(SUITE) * 4
    path.write_text("".join([header, *rows[: len(rows) // each * each]]))
    return len(rows) // each


def summary(path):
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for rule in dict.fromkeys(row["rule"] for row in rows):
        of_rule = [row for row in rows if row["rule"] == rule]
        seconds = np.median([float(row["seconds"]) for row in of_rule])
        yield f"{rule}, {seconds:.1f} s a pair"
        for name in ("different", "slower"):
            alarms = defaultdict(list)
            for row in of_rule:
                alarms[row["suite"]].append(row[name] == "1")
            pairs, suites = rate([one for suite in alarms.values() for one in suite]), rate(map(any, alarms.values()))
            yield f"  called {name}: pairs {pairs}; suites of {len(SUITE)}: {suites}"


def rate(alarms):
    from gradkernels.bench.stats.estimates import clopper_pearson

    alarms = list(alarms)
    low, high = clopper_pearson(sum(alarms), len(alarms))
    return f"{sum(alarms)} of {len(alarms)} = {np.mean(alarms):.0%} ({low:.1%} to {high:.1%})"


if __name__ == "__main__":
    main()
