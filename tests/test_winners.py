"""Tables of winners: what a person reads where the measurements say little."""

import pytest
from measured import changed, passes, record, refused, scaled

from gradkernels.bench.report.ranking_table import markdown
from gradkernels.bench.run.ranking import rankings


def test_bounds_that_say_nothing_are_written_short():
    times = {"numpy.broadcast+.norms": (1e-6, 1e-6), "torch.vmap+.norms": (2e-6, 9e-4)}
    rows = [
        record(kernel=kernel, pass_=number, seconds_median=seconds)
        for kernel, both in times.items()
        for number, seconds in enumerate(both, 1)
    ]
    assert "| undecided [0.00, >100] | torch.vmap+ |" in markdown(rankings(rows))


def test_sizes_of_one_table_stand_together_whatever_else_the_files_hold():
    rows = [record(features=d, n=n, seconds_median=1e-6 * n) for n in (10, 100) for d in (1, 10)]
    assert [(one.case.features, one.case.n) for one in rankings(rows)] == [(1, 10), (1, 100), (10, 10), (10, 100)]
    assert markdown(rankings(rows)).count("| n | winner") == 2


def test_tables_of_several_machines_say_which_is_which():
    rows = [record(machine=name, seconds_median=1e-6 * time) for time, name in enumerate(("desk", "rack"), 1)]
    titles = [text for text in markdown(rankings(rows)).splitlines() if text.startswith("**")]
    shared = "norms of linear, 1 feature, float64, 1 thread"
    assert titles == [f"**{shared}, on desk**", f"**{shared}, on rack**"]
    assert markdown(rankings(rows[:1])).splitlines()[0] == f"**{shared}**"


def test_the_lead_is_taken_within_passes_whatever_the_order_of_rows():
    """Both kernels are 70% slower in every other pass: within passes one is ahead by exactly a half."""
    modes = [1.7, 1.7, 1.7, 1.0, 1.7, 1.0, 1.0, 1.0]
    winner = passes(scaled(modes, 2e-6), kernel="numpy.a.norms")
    other = passes(scaled(modes, 3e-6), kernel="numpy.b.norms")
    alone = record(pass_=99, kernel="numpy.b.norms", seconds_median=1.0)
    (ranking,) = rankings([*winner, alone, *reversed(other)])
    behind = ranking.kernels[1].behind
    assert (behind.ratio, behind.low, behind.high) == pytest.approx((1.5, 1.5, 1.5))
    assert behind.passes == 8


def test_the_passes_of_two_runs_are_not_the_same_passes():
    rows = [*passes([1.0, 2.0], kernel="numpy.a.norms"), *passes([3.0, 4.0], kernel="numpy.b.norms", run="run-b")]
    (ranking,) = rankings(rows)
    assert [one.kernel for one in ranking.kernels] == ["numpy.a.norms", "numpy.b.norms"]
    assert [one.behind for one in ranking.kernels] == [None, None]


def test_the_last_row_of_a_kernel_says_why_it_has_no_time():
    rows = [record(seconds_median=1.0), *refused("timeout", 1, kernel="numpy.b.norms")]
    rows += [changed(row, pass_=2, status="failed", reason="gone") for row in rows[1:]]
    rows += refused("timeout", 1, kernel="numpy.c.norms") + refused("timeout", 1, run="run-b")
    (ranking,) = rankings(rows)
    assert ranking.absent == {"numpy.b.norms": "failed: gone", "numpy.c.norms": "timeout: it is timeout"}
    assert [one.kernel for one in ranking.kernels] == ["numpy.loop.norms"]
