"""Is the choice good, and is it cheap? Race against exhaustive run, regret between the sizes measured and far outside.

`pytest bench/test_choice.py -s` takes about 12 minutes and prints the figures beside their limits. With
`--basetemp=DIR` the results files are kept. `-k kept` measures nothing: it asks how far one could have gone outside the
sizes of the files in results/, in half a minute.
"""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from statistics import median

import pytest

import gradkernels as gk
from gradkernels.backend import BACKENDS
from gradkernels.bench.cli import main
from gradkernels.bench.run.ranking import rankings
from gradkernels.dispatch import wisdom
from gradkernels.dispatch.request import Request
from gradkernels.dispatch.select import choose
from gradkernels.record import read
from gradkernels.zoo import ZOO

GRID = "10:1e6"
BETWEEN = "32,320,3200,32000,320000"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("choice")


def run(path, *arguments):
    """Seconds that a run into `path` took."""
    started = time.monotonic()
    assert main(["run", "--out", str(path), *arguments]) == 0
    return time.monotonic() - started


@pytest.fixture(scope="module")
def exhaustive(folder):
    path = folder / "exhaustive.csv"
    return path, run(path, "--sizes", GRID, "--passes", "16", "--budget", "170s")


def times(path):
    """Seconds by case and kernel."""
    return {
        (one.case.quantity, one.case.n): {place.kernel: place.seconds for place in one.kernels}
        for one in rankings(read(path))
    }


def test_a_race_finds_what_the_exhaustive_run_finds_in_a_quarter_of_its_time(folder, exhaustive):
    path, long = exhaustive
    short = run(folder / "race.csv", "--race", "--sizes", GRID, "--budget", "10s")
    whole, raced = times(path), times(folder / "race.csv")
    loss = {case: whole[case][min(raced[case], key=raced[case].get)] / min(whole[case].values()) - 1 for case in whole}
    print(f"\nexhaustive {long:.0f} s, race {short:.0f} s: {short / long:.0%} (limit 25%)")
    print(f"worst loss of the race's choice {max(loss.values()):.1%} at {max(loss, key=loss.get)} (limit 3%)")
    assert max(loss.values()) <= 0.03
    assert short / long <= 0.25


def test_regret_between_the_sizes_measured(folder, exhaustive):
    between = folder / "between.csv"
    run(between, "--sizes", BETWEEN)
    table = {entry.case.quantity: entry.curves for entry in wisdom.learn(read(exhaustive[0]))}
    regret = []
    for (quantity, n), measured in times(between).items():
        predicted = {kernel: wisdom.seconds_at(table[quantity][kernel], n) for kernel in measured}
        regret.append(measured[min(predicted, key=predicted.get)] / min(measured.values()) - 1)
    print(f"\nregret at {BETWEEN}: median {median(regret):.1%} (limit 5%), worst {max(regret):.1%} (limit 20%)")
    assert median(regret) <= 0.05
    assert max(regret) <= 0.20


RESULTS = Path(__file__).parents[1] / "results"
REGRESSIONS = {"1": gk.LinearRegression, "10": gk.LinearRegression, "100": gk.LinearRegression,
               "huber": gk.HuberRegression, "logistic": gk.LogisticRegression, "poisson": gk.PoissonRegression,
               "softmax": gk.SoftmaxRegression}  # fmt: skip


@pytest.fixture
def only(monkeypatch):
    """A function that makes a table all that is known."""
    for other in ("shipped", "unsaved"):
        monkeypatch.setattr(wisdom, other, lambda: ())
    return lambda table: monkeypatch.setattr(wisdom, "saved", lambda: table)


def far_regrets(path, problem, library, only):
    """What the choice loses where the largest size known is a fraction of n.

    Returns:
        By factor, for each case what the first choice loses, and what the best of it and the kernels that would take
        turns with it in a program does.
    """
    found = defaultdict(list)
    for entry in wisdom.learn(read(path)):
        own = entry.case
        sizes = sorted({point.n for key in entry.competitors for point in entry.curves[key]})
        for known, n in [(known, n) for n in sizes for known in sizes if known * 4 <= n]:
            case = gk.Case(problem, own.quantity, n, own.dtype, own.device, own.threads, own.layout, 0, own.features)
            request = Request(case, BACKENDS[library])
            only((entry,))
            costs = dict(choose(request).costs)
            curves = {key: tuple(point for point in points if point.n <= known) for key, points in entry.curves.items()}
            only((replace(entry, curves={key: points for key, points in curves.items() if points}),))
            choice = choose(request)
            best = min(costs.values())
            tried = [costs[one] for one in (choice.kernel, *choice.rivals) if one in costs]
            found[n // known].append((costs[choice.kernel] / best - 1, min(tried) / best - 1))
    return found


def shown(what, regrets, limits):
    """Print the losses by factor, and return those over their limits of median and ninth decile."""
    over = []
    for factor, losses in sorted(regrets.items()):
        first, tried = [sorted(column) for column in zip(*losses, strict=True)]
        middle, most = median(tried), tried[int(0.9 * len(tried))]
        print(f"{what}, {factor} times the largest n known, {len(losses)} cases: the first choice loses "
              f"{median(first):.0%} in the median, {first[int(0.9 * len(first))]:.0%} at the ninth decile, at worst "
              f"{first[-1]:.0%}; after turns {middle:.0%}, {most:.0%}, {tried[-1]:.0%}")  # fmt: skip
        if factor in limits and (middle > limits[factor][0] or most > limits[factor][1]):
            over.append((factor, middle, most, limits[factor]))
    return over


def pooled(each):
    regrets = defaultdict(list)
    for one in each:
        for factor, losses in one.items():
            regrets[factor] += losses
    return regrets


FAR_LIMITS = {10: (0.05, 0.20), 100: (0.05, 0.60)}
"""Of regressions by factor: median, ninth decile."""

MODULE_LIMITS = {4: (0.05, 0.30), 10: (0.05, 0.60), 16: (0.05, 0.60), 100: (0.20, 1.0)}
"""Of modules, after turns."""


def test_regret_far_outside_the_sizes_of_kept_files(only):
    print()
    regressions = [
        far_regrets(RESULTS / f"shipped-{name}.csv", make(), "numpy", only) for name, make in REGRESSIONS.items()
    ]
    modules = [far_regrets(RESULTS / f"modules-{name}-1.csv", make(), "torch", only) for name, make in ZOO.items()]
    assert shown("regressions", pooled(regressions), FAR_LIMITS) == []
    assert shown("modules", pooled(modules), MODULE_LIMITS) == []


def test_regret_far_outside_the_sizes_measured_now(exhaustive, only):
    print()
    assert (
        shown("linear regression", far_regrets(exhaustive[0], gk.LinearRegression(), "numpy", only), FAR_LIMITS) == []
    )


@pytest.mark.parametrize("name", ["mlp", "embedding_bag"])
def test_regret_of_a_module_far_outside_the_sizes_measured_now(name, folder, only):
    path = folder / f"{name}.csv"
    run(path, "--problem", f"gradkernels.zoo:{name}", "--dtype", "float32", "--quantity", "per_sample,norms,gradient",
        "--sizes", "10,100,1000", "--passes", "3", "--budget", "60s", "--kernel", "torch.[!c]*")  # fmt: skip
    print()
    assert shown(name, far_regrets(path, ZOO[name](), "torch", only), MODULE_LIMITS) == []
