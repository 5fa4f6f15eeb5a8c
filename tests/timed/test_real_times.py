"""What is asserted of times that are really measured: nothing runs beside these tests."""

from __future__ import annotations

import csv
import io
import math
from functools import partial

import pytest
from test_ab import repository, run, worktrees
from test_interleaved import FAST, timed

from gradkernels.bench.ab import selftest, sequential
from gradkernels.bench.ab.interleaved import Target
from gradkernels.bench.compare.thresholds import Thresholds

__all__ = ["repository"]


@pytest.fixture(autouse=True)
def sooner(monkeypatch, long):
    """Look at a comparison after four passes already, where few are enough for changes as large as these."""
    if not long:
        monkeypatch.setattr(sequential, "LOOKS", ((4, 0.002), *sequential.LOOKS))


def test_a_revision_three_times_as_slow_is_found(repository, capsys, long):
    code, out, err = run(capsys, "HEAD~1", "HEAD", "--sizes", "3000", "--fail-slower", "5%", "--format", "csv")
    (row,) = csv.DictReader(io.StringIO(out))
    assert code == 1, err
    assert (row["kernel"], row["n"], row["verdict"]) == ("numpy.mine.norms", "3000", "slower")
    assert 2 < float(row["ratio"]) < 4
    assert f"pass {8 if long else 4}, 1 open" in err
    assert "in HEAD~1 against itself at numpy.mine.norms, n = 3000" in err
    assert worktrees(repository) == 1


def test_twice_the_calls_take_twice_the_time(tmp_path):
    found = timed(FAST, Target(FAST.kernel, FAST.n, extra=100), folder=tmp_path)
    equal, double = found.values()
    assert equal.ok
    assert equal.log == pytest.approx(0, abs=0.15)
    assert double.log == pytest.approx(math.log(2), abs=0.15)
    assert equal.seconds[0] == pytest.approx(double.seconds[0], rel=1)


def test_a_real_comparison_of_a_kernel_with_itself_ends_in_a_verdict(monkeypatch):
    # Of a change by 25% it is sure after fewer passes than of one by 1%.
    settled = partial(selftest.time_until_settled, thresholds=Thresholds(delta=0.25))
    monkeypatch.setattr(selftest, "time_until_settled", settled)
    found = selftest.run_trial(Target("numpy.matmul.gradient", 100))
    assert found.passes in (4, 8, 16, 32)
    assert found.low < 1.02
    assert found.high > 0.98
    assert 0.9 < found.ratio < 1.1
