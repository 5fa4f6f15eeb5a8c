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
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
from comparing_tools import SUITE, ours, pyperf, pytest_benchmark

COLUMNS = ("suite", "kernel", "n", "rule", "ratio", "different", "slower", "seconds")


def main():
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--suites", type=int, default=10, help="how many suites of three in the end")
    options.add_argument("--out", type=Path, default=Path("results/false_alarms.csv"))
    options.add_argument("--resume", action="store_true", help="go on with --out")
    given = options.parse_args()
    if given.out.exists() and not given.resume:
        options.error(f"{given.out} is there already; go on with --resume, or name another --out")
    for suite in range(done(given.out), given.suites):
        for rows in (pytest_benchmark, pyperf, ours):
            append(given.out, suite, rows())
        print(f"suite {suite + 1} of {given.suites}", file=sys.stderr, flush=True)
    return print(*summary(given.out), sep="\n")


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
