"""How three tools compare identical code, each in its own way: pytest-benchmark, pyperf's rule, `gradkernels ab`.

    python bench/comparing_tools.py KERNEL N CALLS

prints the values of one process of pyperf's rule as JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
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
LIMIT = 1.05
PROCESSES, VALUES, VALUE_SECONDS = 20, 3, 0.1
PYTEST_SUITE = """
import pytest
from comparing_tools import SUITE, bound

@pytest.mark.parametrize(("key", "n"), SUITE)
def test_kernel(benchmark, key, n):
    benchmark(bound(key, n))
"""


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
    command = [sys.executable, __file__, key, n, calls]
    done = subprocess.run(command, env=child_environment(1), check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def values(key, n, calls):
    """What one process of the t test's gives: a warm-up, and three values that count."""
    call = bound(key, n)
    return [time_slice(call, calls) for _ in range(1 + VALUES)][1:]


def ours():
    """One comparison of the selftest's."""
    from gradkernels.bench.ab.interleaved import Target
    from gradkernels.bench.ab.selftest import run_trial

    for key, n in SUITE:
        one = run_trial(Target(key, n))
        yield key, n, "gradkernels ab", one.ratio, one.verdict in ("slower", "faster"), one.seconds


if __name__ == "__main__":
    print(json.dumps(values(sys.argv[1], *map(int, sys.argv[2:]))))
