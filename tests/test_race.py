"""The race: who drops out when, what is measured again, and what is saved."""

from __future__ import annotations

import numpy as np
import pytest
from measured import STEADY, changed, passes, scaled

import gradkernels as gk
from gradkernels.bench.cli import main
from gradkernels.bench.run import race as racing
from gradkernels.bench.run import race_plan
from gradkernels.bench.run.plan import Plan
from gradkernels.bench.run.session import Schedule, open_session
from gradkernels.dispatch import wisdom
from gradkernels.dispatch.machine import machine
from gradkernels.record import read

BROADCAST, LOOP, VMAP = "numpy.broadcast+.norms", "numpy.loop+.norms", "torch.vmap+.norms"


@pytest.fixture
def session(tmp_path):
    """A session of three kernels at n = 100, in whose file there is nothing."""
    plan, schedule = Plan("linear", (BROADCAST, LOOP, VMAP), (100,)), Schedule(16, 1.0, "1s")
    with open_session(plan, tmp_path / "x.csv", schedule, lambda at: None) as session:
        yield session


def measure(session, **times):
    """Put passes that took these seconds into its records."""
    for kernel, seconds in zip((BROADCAST, LOOP, VMAP), times.values(), strict=True):
        session.records += passes(seconds, kernel=kernel, n=100)


def test_what_is_surely_slower_drops_out_and_the_rest_stays(session):
    wide = [1.00, 1.30, 0.80, 1.20, 0.75, 1.25, 0.90, 1.10]
    measure(
        session, broadcast=STEADY, loop=scaled(STEADY, 1.5), vmap=[a * b for a, b in zip(wide, STEADY, strict=True)]
    )
    racing._settle(session, 0.01)
    assert session.settled == {(0, LOOP)}
    assert racing._undecided(session) == [0]


def test_a_tie_is_decided_for_fewer_dependencies(session):
    measure(session, broadcast=scaled(STEADY, 1.01), loop=scaled(STEADY, 2.0), vmap=STEADY)
    racing._settle(session, 0.01)
    assert session.settled == {(0, LOOP), (0, VMAP)}
    assert racing._undecided(session) == []


def test_what_was_never_timed_is_out_of_the_race(session):
    measure(session, broadcast=STEADY, loop=scaled(STEADY, 2.0), vmap=[])
    racing._settle(session, 0.01)
    assert session.settled == {(0, LOOP), (0, VMAP)}


def test_the_winners_published_times_are_those_of_its_fresh_passes():
    race, fresh = passes(scaled(STEADY, 0.5), kernel=BROADCAST), passes(STEADY[:3], kernel=BROADCAST)
    rows = [*race, *passes(scaled(STEADY, 2.0), kernel=LOOP), *(later(row) for row in fresh)]
    kept = racing.unbiased_records(rows)
    assert {row.pass_ for row in kept if row.kernel == BROADCAST} == {9, 10, 11}
    assert len([row for row in kept if row.kernel == LOOP]) == 8


def later(row):
    return changed(row, pass_=row.pass_ + 8)


@pytest.fixture
def short(monkeypatch, tmp_path):
    monkeypatch.setattr(racing, "ELIMINATION_LOOKS", ((2, 0.05), (3, 0.05)))
    monkeypatch.setattr(racing, "FRESH_PASSES", 1)
    monkeypatch.setenv(wisdom.ENVIRONMENT, str(tmp_path / "wisdom.json"))
    monkeypatch.chdir(tmp_path)
    wisdom.saved.cache_clear()
    yield
    wisdom.saved.cache_clear()


def test_racing_on_ones_own_arrays_gives_a_bound_kernel_and_saves_the_choice(short, monkeypatch):
    numpy_only = [
        kernel for kernel in gk.kernels(quantity="norms") if kernel.way in ("numpy.broadcast+", "numpy.loop+")
    ]
    monkeypatch.setattr(race_plan, "kernels", lambda problem, quantity: numpy_only)
    p = gk.LinearRegression()
    theta, x, y = p.draw(200, 0, features=3)
    bound = gk.race(p, "norms", like=(theta, x, y), budget=20)
    assert bound.kernel.key == BROADCAST
    np.testing.assert_allclose(bound(theta, x, y), gk.norms(p, theta, x, y, kernel="numpy.loop"))
    assert "this machine's saved wisdom" in bound.why
    assert f"{LOOP}:" in bound.why
    (entry,) = wisdom.saved()
    assert (entry.machine, entry.case.features, set(entry.curves)) == (machine(), 3, {BROADCAST, LOOP})


def test_a_race_on_the_command_line_prints_and_keeps_its_passes(short, capsys):
    arguments = ["run", "--race", "--quantity", "norms", "--sizes", "1000", "--budget", "5s"]
    arguments += ["--kernel", "numpy.broadcast", "--kernel", "numpy.loop"]
    assert main([*arguments, "--out", "x.csv"]) == 0
    assert "numpy.broadcast+" in capsys.readouterr().out
    rows = [row for row in read("x.csv") if row.kernel == BROADCAST]
    assert [row.pass_ for row in rows] in ([1, 2, 3], [1, 2, 3, 4])
    assert main([*arguments, "--resume", "--out", "x.csv"]) == 2


def test_arrays_that_do_not_fit_are_refused_before_anything_is_measured():
    p = gk.LinearRegression()
    theta, x, y = p.draw(10, 0)
    with pytest.raises(ValueError, match="theta must be"):
        gk.race(p, "norms", like=(theta[:1], x, y))
    with pytest.raises(ValueError, match="did you mean norms"):
        gk.race(p, "norm", like=(theta, x, y))


@pytest.mark.parametrize("budget", [0, -1, float("nan"), float("inf"), "60s"])
def test_a_budget_that_is_no_time_is_refused_before_anything_is_measured(budget):
    p = gk.LinearRegression()
    with pytest.raises(ValueError, match="it must be a positive number of seconds"):
        gk.race(p, "norms", like=p.draw(5, seed=0), budget=budget)
