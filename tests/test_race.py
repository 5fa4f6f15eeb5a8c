"""The race: who drops out when, what is measured again, and what is saved."""

from __future__ import annotations

import io
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from measured import STEADY, changed, passes, scaled

import gradkernels as gk
from gradkernels.bench.cli import main
from gradkernels.bench.cli.run_progress import run_progress_shown
from gradkernels.bench.race import elimination
from gradkernels.bench.race import plan as race_plan
from gradkernels.bench.race import race as race_module
from gradkernels.bench.race.progress import line_shown
from gradkernels.bench.run.plan import Plan
from gradkernels.bench.run.ranking import rankings
from gradkernels.bench.run.session import Schedule, SessionProgress, open_session
from gradkernels.dispatch import wisdom
from gradkernels.dispatch.machine import machine
from gradkernels.record import HEADER, MEASURED_AGAIN, append, read, unbiased

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
    elimination._settle(session, 0.01)
    assert session.settled == {(0, LOOP)}
    assert elimination._undecided(session) == [0]


def test_what_did_not_take_turns_with_the_best_stays_in_the_race(session):
    measure(session, broadcast=STEADY, loop=scaled(STEADY, 1.5), vmap=scaled(STEADY, 3))
    apart = [changed(row, block=2) if row.kernel == LOOP else row for row in session.records]
    session.records[:] = apart
    elimination._settle(session, 0.01)
    assert session.settled == {(0, VMAP)}


def test_a_tie_is_decided_for_fewer_dependencies(session):
    measure(session, broadcast=scaled(STEADY, 1.01), loop=scaled(STEADY, 2.0), vmap=STEADY)
    elimination._settle(session, 0.01)
    assert session.settled == {(0, LOOP), (0, VMAP)}
    assert elimination._undecided(session) == []


def test_what_was_never_timed_is_out_of_the_race(session):
    measure(session, broadcast=STEADY, loop=scaled(STEADY, 2.0), vmap=[])
    elimination._settle(session, 0.01)
    assert session.settled == {(0, LOOP), (0, VMAP)}


def raced_rows():
    """Eight passes of two kernels, of which the first won, and three passes of the winner alone, 10% slower."""
    together = [*passes(STEADY, kernel=BROADCAST), *passes(scaled(STEADY, 1.05), kernel=LOOP)]
    alone = passes(scaled(STEADY[:3], 1.1), kernel=BROADCAST)
    return [*together, *(later(row, reason=f"unpinned; {MEASURED_AGAIN}") for row in alone)]


def test_the_winners_published_times_are_those_of_its_fresh_passes():
    kept = unbiased(raced_rows())
    assert {row.pass_ for row in kept if row.kernel == BROADCAST} == {9, 10, 11}
    assert len([row for row in kept if row.kernel == LOOP]) == 8
    other = passes([0.9], kernel=BROADCAST, run="run-b")
    assert unbiased([*raced_rows(), *other])[-1] is other[0], "another run has nothing to do with it"


def test_a_winner_of_one_fresh_pass_is_known_by_that_one():
    rows = raced_rows()[:-2]
    assert [row.pass_ for row in unbiased(rows) if row.kernel == BROADCAST] == [9]


def test_a_winner_is_placed_by_the_passes_in_turns_and_timed_by_those_of_its_own():
    (ranking,) = rankings(raced_rows())
    winner, other = ranking.kernels
    assert (winner.kernel, winner.seconds) == (BROADCAST, 1.1)
    assert (other.kernel, other.seconds) == (LOOP, pytest.approx(1.05))
    assert other.in_turns
    assert other.behind.ratio == pytest.approx(1.05)


def test_a_file_of_a_race_teaches_the_times_of_the_fresh_passes(short, tmp_path):
    (tmp_path / "x.csv").write_text(HEADER)
    append(tmp_path / "x.csv", [changed(row, machine=machine()) for row in raced_rows()])
    assert main(["fastest", "x.csv", "--save"]) == 0
    wisdom.saved.cache_clear()
    (entry,) = wisdom.saved()
    assert [point.seconds for point in entry.curves[BROADCAST]] == [1.1]


def later(row, **changes):
    return changed(row, pass_=row.pass_ + 8, **changes)


class FakeClock:
    """Time that only passes take."""

    def __init__(self, monkeypatch, session, seconds, times):
        self.now, self.session, self.seconds, self.times, self.passes = 0.0, session, seconds, times, []
        session._deadline = session.schedule.budget
        monkeypatch.setattr(elimination, "time", self)
        monkeypatch.setattr("gradkernels.bench.run.session.time", self)
        monkeypatch.setattr(session, "measure", self.measure)

    def monotonic(self):
        return self.now

    def measure(self, pass_, seconds, without=(), note=""):
        every = {(0, key) for key in self.session.plan.kernels}
        racing = sorted(key for _, key in every - self.session.settled - set(without))
        self.passes.append((racing, round(seconds, 2)))
        for key in racing:
            self.now += self.seconds[key]
            self.session.records += [changed(row, pass_=pass_) for row in passes([self.times[key]], kernel=key, n=100)]


COMPILED = "torch.compiled.norms"


def raced(monkeypatch, tmp_path, budget, kernels, seconds, times):
    plan, schedule = Plan("linear", kernels, (100,)), Schedule(16, budget, f"{budget}s")
    with open_session(plan, tmp_path / "x.csv", schedule, lambda at: None) as session:
        clock = FakeClock(monkeypatch, session, seconds, times)
        elimination.measure_by_elimination(session)
    return clock


TIMES = {BROADCAST: 1e-3, LOOP: 1.01e-3, VMAP: 1.02e-3, COMPILED: 0.5e-3}


def test_no_pass_begins_that_could_not_end_in_time(monkeypatch, tmp_path):
    clock = raced(monkeypatch, tmp_path, 10, (BROADCAST, LOOP), {BROADCAST: 2.0, LOOP: 2.0}, TIMES)
    # Two passes of 4 s; a third would end after 12 s, but one of the winner alone, 2 s, fits.
    assert [racing for racing, _ in clock.passes] == [[BROADCAST, LOOP]] * 2 + [[BROADCAST]]
    assert clock.now == 10.0


def test_a_race_without_time_still_measures_each_kernel_once(monkeypatch, tmp_path):
    clock = raced(monkeypatch, tmp_path, 1, (BROADCAST, LOOP), {BROADCAST: 2.0, LOOP: 2.0}, TIMES)
    assert [racing for racing, _ in clock.passes] == [[BROADCAST, LOOP]]


def test_what_compiles_comes_last_against_the_best_and_in_half_of_the_time(monkeypatch, tmp_path):
    seconds = {BROADCAST: 5.0, LOOP: 5.0, COMPILED: 20.0}
    clock = raced(monkeypatch, tmp_path, 60, (BROADCAST, LOOP, COMPILED), seconds, TIMES | {LOOP: 2e-3})
    # Three passes of 10 s fill the first half; then 25 s with what compiles, of which no second fits.
    assert [racing for racing, _ in clock.passes] == [[BROADCAST, LOOP]] * 3 + [[BROADCAST, COMPILED]]
    assert clock.now == 55.0


@pytest.fixture
def short(monkeypatch, tmp_path):
    monkeypatch.setattr(elimination, "ELIMINATION_LOOKS", ((2, 0.05), (3, 0.05)))
    monkeypatch.setattr(elimination, "FRESH_PASSES", 1)
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
    origins = [point.origin for points in entry.curves.values() for point in points]
    assert {origin.source for origin in origins} == {"race"}
    assert all(origin.passes >= 1 for origin in origins)


def test_a_race_that_cannot_be_saved_counts_for_the_process_and_is_saved_with_the_next(short, tmp_path):
    path = tmp_path / "wisdom.json"
    path.write_text("nonsense")
    rows = [row for key, seconds in ((BROADCAST, 2.0), (LOOP, 1.0)) for row in passes([seconds], kernel=key, n=10)]
    with pytest.warns(UserWarning, match=rf"^the race counts for this process alone: {path} is not a wisdom file"):
        race_module._save(wisdom.learn(rows, "race"))
    assert path.read_text() == "nonsense"
    with pytest.warns(UserWarning, match="this machine's saved choice is passed over"):
        bound = gk.fastest(gk.LinearRegression(), "norms", n=10)
    assert bound.why.startswith(f"{LOOP} for n = 10, by a race of this process, which could not be saved (desk, 2026")
    path.unlink()
    wisdom.save(wisdom.learn(passes([3.0], kernel=VMAP, n=10), "race"))
    (entry,) = wisdom.saved()
    assert set(entry.curves) == {BROADCAST, LOOP, VMAP}
    assert wisdom.unsaved() == ()


def test_a_race_on_the_command_line_prints_and_keeps_its_passes(short, capsys):
    arguments = ["run", "--race", "--quantity", "norms", "--sizes", "1000", "--budget", "60s"]
    arguments += ["--kernel", "numpy.broadcast", "--kernel", "numpy.loop"]
    assert main([*arguments, "--out", "x.csv"]) == 0
    printed = capsys.readouterr().out
    assert "numpy.broadcast+" in printed
    rows = [row for row in read("x.csv") if row.kernel == BROADCAST]
    assert [row.pass_ for row in rows] in ([1, 2, 3], [1, 2, 3, 4])
    assert [MEASURED_AGAIN in row.measurement.reason for row in rows] == [False] * (len(rows) - 1) + [True]
    assert main(["fastest", "x.csv"]) == 0
    assert printed.startswith(capsys.readouterr().out.rstrip()), "the same file, the same numbers"
    for other in (["--resume"], ["--passes", "3"]):
        assert main([*arguments, *other, "--out", "y.csv"]) == 2
        assert capsys.readouterr().err.startswith("gradkernels: --race and --")


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


def test_a_race_shows_its_pass_on_a_terminal_and_takes_the_line_away(monkeypatch):
    shown = io.StringIO()
    monkeypatch.setattr("sys.stderr", shown)
    monkeypatch.setenv("TERM", "xterm")
    with line_shown() as tell:
        tell(SessionProgress(17, 16, 0, 1))
    assert shown.getvalue() == ""
    monkeypatch.setattr(shown, "isatty", lambda: True)
    with line_shown() as tell:
        tell(SessionProgress(17, 16, 0, 1))
    assert "race: pass 17" in shown.getvalue()
    assert shown.getvalue().endswith("\x1b[1A\x1b[2K"), "the line is cleared"


@pytest.mark.parametrize(
    ("show", "says"), [(line_shown, "race: pass 3"), (run_progress_shown, "pass 3 of 16, case 1 of 2")]
)
def test_in_a_notebook_a_line_of_the_cell_changes_and_nothing_is_printed(monkeypatch, capsys, show, says):
    shown = []

    def display(data, raw, display_id):
        assert raw
        assert display_id
        shown.append(data)
        return SimpleNamespace(update=lambda data, raw: shown.append(data))

    shell = type("ZMQInteractiveShell", (), {})
    monkeypatch.setattr("builtins.get_ipython", shell, raising=False)
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(display=SimpleNamespace(display=display)))
    with show() as tell:
        tell(SessionProgress(3, 16, 0, 2))
    assert [text["text/plain"] for text in shown] == ["starting", says, ""]
    assert capsys.readouterr() == ("", "")
