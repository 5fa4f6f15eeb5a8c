"""The exponent of cost against n: known ones found again, an independent fit, and what cannot be known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from measured import changed, record
from scipy import stats
from scipy.optimize import curve_fit, nnls

from gradkernels.bench.report.ranking_table import LONG_HEADER, as_csv, cells, growths, long_rows, markdown
from gradkernels.bench.run.ranking import rankings
from gradkernels.bench.stats import scaling
from gradkernels.bench.stats.scaling import Growth, _misfit, exponent, fixed_cost, growth

SIZES = [10, 100, 1000, 10_000, 100_000, 1_000_000]


def cost(k, fixed=1e-6, sizes=SIZES):
    """Seconds at each size."""
    return fixed + 1e-9 * np.array(sizes, float) ** k


def noisy(passes, spread=0.05, k=1.0, seed=0):
    """Times of several passes with log-normal noise."""
    rng = np.random.default_rng(seed)
    return {
        ("run", i): dict(zip(SIZES, cost(k) * np.exp(rng.normal(0, spread, len(SIZES))), strict=True))
        for i in range(passes)
    }


@pytest.mark.parametrize("k", [0.5, 0.9, 1.0, 1.37, 2.0, 3.0])
@pytest.mark.parametrize("fixed", [0.0, 1e-7, 1e-5])
def test_a_known_exponent_is_found_whatever_the_fixed_cost(k, fixed):
    assert exponent(SIZES, cost(k, fixed)) == pytest.approx(k, abs=1e-3)


# Noise, and costs too small at first for any fixed cost: it stays at zero.
SHAPES = [list(next(iter(noisy(1, seed=seed).values())).values()) for seed in range(5)]
SHAPES += [list(cost(1.0, 0.0) * [0.5, 0.7, 1, 1, 1, 1]), list(cost(1.3, 0.0) * [0.2, 1, 1, 1, 1, 1])]


@pytest.mark.parametrize("seconds", SHAPES)
def test_it_is_the_least_squares_fit_that_scipy_finds(seconds):
    def model(sizes, fixed, factor, k):
        return fixed + factor * (sizes / 1e6) ** k

    start = (seconds[0] / 2, seconds[-1], 1.0)
    found, _ = curve_fit(model, SIZES, seconds, p0=start, sigma=seconds, bounds=(0, [1, 1, 4]), x_scale=start,
                         ftol=1e-12, xtol=1e-12, gtol=1e-12)  # fmt: skip
    assert exponent(SIZES, seconds) == pytest.approx(found[2], abs=2e-4)


@pytest.mark.parametrize("seconds", [(3.0, 2.0, 1.0), (1.0, 4.0, 9.0), (1.0, 1.2, 9.0), (5.0, 4.0, 6.0)])
@pytest.mark.parametrize("k", [0.5, 1.0, 2.5])
def test_the_misfit_is_that_of_two_parts_of_which_none_is_negative(seconds, k):
    sizes, times = np.array([10.0, 20.0, 40.0]), np.array(seconds)
    (fixed, _), residual = nnls(np.stack([1 / times, sizes**k / times], 1), np.ones(3))
    assert _misfit(np.array([k]), np.log(sizes), times)[0] == pytest.approx(residual**2)
    assert fixed_cost(sizes, times, k) == pytest.approx(fixed)


def test_without_a_fixed_cost_two_sizes_give_the_slope_between_them():
    assert exponent([100, 10_000], [1e-6, 1e-3]) == pytest.approx(1.5)


def test_three_sizes_tell_the_fixed_cost_from_the_rest():
    sizes = [10, 1000, 100_000]
    found = growth({("run", 1): dict(zip(sizes, cost(1.2, 1e-5, sizes), strict=True))})
    assert found.exponent == pytest.approx(1.2, abs=1e-3)
    assert found.fixed_seconds == pytest.approx(1e-5)


@pytest.mark.parametrize("k", [0.61237, 1.37123, 2.71828])
def test_an_exponent_that_no_grid_holds_is_found_to_seven_places(k):
    assert exponent(SIZES, cost(k, 1e-7)) == pytest.approx(k, abs=1e-7)


def test_cost_that_falls_at_first_is_taken_for_fixed():
    times = cost(1.0) * np.array([1.3, 1, 1, 1, 1, 1])
    assert exponent(SIZES, times) == pytest.approx(1.0, abs=0.02)


def test_the_interval_covers_the_truth_as_often_as_it_says():
    """Of 400 samples of 8 passes, 95% cover; 4 standard errors of that frequency are allowed."""
    found = [growth(noisy(8, seed=seed)) for seed in range(400)]
    covered = sum(one.low <= 1.0 <= one.high for one in found)
    assert abs(covered / 400 - 0.95) < 4 * math.sqrt(0.95 * 0.05 / 400)


def test_the_interval_is_students_over_the_passes():
    times = noisy(6, seed=3)
    each = [exponent(SIZES, list(row.values())) for row in times.values()]
    low, high = stats.t.interval(0.95, 5, np.mean(each), stats.sem(each))
    found = growth(times)
    assert (found.exponent, found.low, found.high) == pytest.approx((np.mean(each), low, high))
    assert (found.first, found.last) == (10, 1_000_000)


def test_one_pass_gives_an_exponent_without_an_interval():
    found = growth(noisy(1, spread=0))
    assert (found.low, found.high) == (-math.inf, math.inf)
    assert str(found) == "n^1.00 from n = 10 to 1,000,000"


def test_the_fixed_cost_is_found_and_is_no_more_than_a_call_takes():
    assert growth(noisy(5, spread=0.0)).fixed_seconds == pytest.approx(1e-6, rel=1e-3)
    free = {("run", i): dict(zip(SIZES, cost(1.0, 0.0), strict=True)) for i in range(3)}
    assert growth(free).fixed_seconds == pytest.approx(0, abs=1e-12)
    # The smallest size is faster than what the others have in common: no more than that is told.
    times = cost(1.0, 1e-5) * [0.7, 1, 1, 1, 1, 1]
    assert growth({("run", 1): dict(zip(SIZES, times, strict=True))}).fixed_seconds == pytest.approx(times[0])
    assert growth({("run", 1): {10: 1e-6, 1000: 9e-6}}).fixed_seconds is None


def test_growth_is_told_by_what_is_known_of_it():
    two = rankings(rows(sizes=SIZES[3:5]))
    assert growths(two)[0].startswith("numpy.loop: time grows as n^0.9")
    assert growths(two)[0].endswith("from n = 10,000 to 100,000, fixed cost included")
    free = [changed(row, seconds_median=1e-9 * row.case.n) for row in rows()]
    assert growths(rankings(free))[0].endswith(", with no fixed cost to be seen")


def test_one_size_or_a_cost_that_does_not_double_gives_none():
    assert growth({("run", 1): {10: 1e-6}}) is None
    assert growth({("run", 1): {10: 1e-6, 1000: 1.9e-6}}) is None
    assert growth({("run", 1): {10: 1e-6, 1000: 2e-6}}).exponent == pytest.approx(math.log10(2) / 2)
    assert growth({}) is None


def test_a_size_that_most_passes_lack_is_left_out_and_so_is_a_pass_that_lacks_another():
    times = noisy(5, spread=0)
    del times["run", 0][1000]
    for i in (0, 1, 2):
        del times["run", i][1_000_000]
    times["run", 0][10_000] = 1.0  # of the pass that is left out
    found = growth(times)
    assert (found.first, found.last) == (10, 100_000)
    assert found.exponent == pytest.approx(1.0, abs=1e-3)


def test_a_size_that_half_of_the_passes_lack_is_left_out():
    times = noisy(4, spread=0)
    for i in (0, 1):
        del times["run", i][1_000_000]
    assert growth(times).last == 100_000


def test_passes_that_each_lack_a_size_tell_nothing():
    times = noisy(3, spread=0)
    for i, n in enumerate((10, 1000, 1_000_000)):
        del times["run", i][n]
    assert growth(times) is None


def rows(kernel="numpy.loop.norms", factor=1.0, passes=6, sizes=SIZES, **changes):
    """A results file's rows of one kernel whose cost is linear."""
    return [
        record(kernel=kernel, n=n, pass_=i, seconds_median=factor * seconds * (1 + 0.01 * (i % 3)), **changes)
        for i in range(1, passes + 1)
        for n, seconds in zip(sizes, cost(1.0, sizes=sizes), strict=True)
    ]


def test_winners_carry_limit_and_exponent_into_every_format():
    records = rows(limit_seconds=5e-7) + rows("numpy.broadcast+.norms", 2.0)
    ranking = rankings(records)
    told = "a call whatever n, and a part that grows as n^1.00 [95%: 1.00, 1.00] from n = 10 to 1,000,000"
    assert growths(ranking) == [f"numpy.loop: about 1.0 µs {told}"]
    assert growths(ranking)[0] in markdown(ranking)
    assert cells(ranking[0])[3] == "49%"
    first, second, *_ = (dict(zip(LONG_HEADER, row, strict=True)) for row in long_rows(ranking))
    assert first["of_limit"] == pytest.approx(5e-7 / 1.0201e-6)
    assert first["limit_seconds"] == 5e-7
    assert (first["exponent"], first["exponent_low"]) == pytest.approx((1, 1), abs=1e-2)
    assert second["of_limit"] is second["limit_seconds"] is None
    assert second["exponent"] == pytest.approx(1, abs=1e-2)


def test_results_without_limits_and_growth_say_nothing_of_them():
    (ranking,) = rankings(rows(sizes=SIZES[:1]))
    assert cells(ranking)[3] == "-"
    assert growths([ranking]) == []
    assert "grows" not in markdown([ranking])
    (row,) = long_rows([ranking])
    assert row[-5:] == (None,) * 5


def test_rows_for_machines_tell_apart_what_the_ranking_tells_apart():
    others = {"machine": "lab", "layout": "F", "device": "cuda", "threads": 2, "dtype": "float32"}
    records = [row for name, value in others.items() for row in rows(passes=1, sizes=SIZES[:1], **{name: value})]
    told = [row.split(",") for row in as_csv(rankings(records)).splitlines()]
    assert told[0][:9] == ["machine", "problem", "quantity", "n", "features", "dtype", "layout", "device", "threads"]
    assert sorted(row[:9] for row in told[1:]) == [
        ["desk", "linear", "norms", "10", "1", "float32", "C", "cpu", "1"],
        ["desk", "linear", "norms", "10", "1", "float64", "C", "cpu", "2"],
        ["desk", "linear", "norms", "10", "1", "float64", "C", "cuda", "1"],
        ["desk", "linear", "norms", "10", "1", "float64", "F", "cpu", "1"],
        ["lab", "linear", "norms", "10", "1", "float64", "C", "cpu", "1"],
    ]


def test_cases_that_differ_in_more_than_n_share_no_curve():
    records = rows(sizes=SIZES[:1]) + rows(sizes=SIZES[3:4], dtype="float32")
    assert [one.kernels[0].growth for one in rankings(records)] == [None, None]


def test_an_exponent_reads_as_a_sentence():
    assert str(Growth(0.984, 0.9512, 1.0168, 1000, 10**6)) == "n^0.98 [95%: 0.95, 1.02] from n = 1,000 to 1,000,000"


def test_of_very_many_passes_groups_are_fitted_and_the_exponent_is_the_same(monkeypatch):
    """320 passes with a noise of 5%: as well known by the medians of 32 groups, in a tenth of the fits."""
    times, fits = noisy(320, k=1.2), []
    monkeypatch.setattr(scaling, "exponent", lambda *given: fits.append(given) or exponent(*given))
    found = growth(times)
    assert len(fits) == 32
    assert found.low < 1.2 < found.high
    assert 0.001 < found.high - found.low < 0.02
