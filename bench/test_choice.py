"""Is the choice good, and is it cheap? Race against exhaustive run, regret between the sizes measured and far outside.

`pytest bench/test_choice.py -s` takes about 12 minutes and prints the figures beside their limits. With
`--basetemp=DIR` the results files are kept. `-k kept` measures nothing: it asks how far one could have gone outside the
sizes of the files in results/, in half a minute.
"""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median

import pytest
from choice_regrets import far_regrets, pooled, shown

import gradkernels as gk
from gradkernels.bench.cli import main
from gradkernels.bench.run.ranking import rankings
from gradkernels.dispatch import wisdom
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
