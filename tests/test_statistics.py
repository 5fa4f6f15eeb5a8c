"""Statistics against scipy, published figures, figures worked by hand, and simulated noise."""

import math

import numpy as np
import pytest
from scipy import stats

from gradkernels.bench.stats.estimates import (
    LOOKS,
    LogEstimate,
    Ratio,
    alpha_at,
    bounds,
    clopper_pearson,
    difference,
    holm,
    mean_over_rows,
    middle,
    trimmed_mean,
)
from gradkernels.bench.stats.verdict import excludes, lead, p_slower, p_value, passes_needed, smallest_effect, verdict

# Student's sleep data (Cushny & Peebles 1905), as in R: extra hours of sleep with two drugs.
DRUG_1 = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
DRUG_2 = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
LEAST = math.log(1.01)
GAIN = [two - one for one, two in zip(DRUG_1, DRUG_2, strict=True)]


def logs_of(ratio):
    return math.log(ratio.low), math.log(ratio.high)


def test_without_trimming_it_is_students_paired_test():
    assert logs_of(bounds(trimmed_mean(GAIN, cut=0), alpha=0.025)) == pytest.approx((0.7001142, 2.4598858), abs=5e-8)


def test_without_trimming_it_is_welchs_test():
    gap = difference(trimmed_mean(DRUG_1, cut=0), trimmed_mean(DRUG_2, cut=0))
    assert gap.log / gap.error == pytest.approx(1.8608, abs=5e-5)
    assert gap.freedom == pytest.approx(17.776, abs=5e-4)
    assert logs_of(bounds(gap, alpha=0.025)) == pytest.approx((-0.2054832, 3.3654832), abs=5e-8)


def test_trimmed_mean_worked_by_hand():
    # One cut on each side leaves 0.8 to 2.4; winsorised deviations from 1.44 have the sum of squares 3.084.
    assert trimmed_mean(GAIN) == LogEstimate(pytest.approx(1.4), pytest.approx(math.sqrt(3.084 / 56)), 7, 10)


@pytest.mark.parametrize("passes", [2, 6, 7, 8, 15, 16, 31, 32, 40])
def test_one_sample_agrees_with_scipy(passes):
    values = np.random.default_rng(passes).standard_t(3, passes)
    oracle = stats.ttest_ind(values, np.zeros(passes), equal_var=False, trim=1 / 8)
    estimate = trimmed_mean(list(values))
    assert estimate.log == pytest.approx(float(stats.trim_mean(values, 1 / 8)), rel=1e-12)
    assert estimate.log / estimate.error == pytest.approx(oracle.statistic, rel=1e-12)
    assert estimate.freedom == pytest.approx(oracle.df, rel=1e-12)


@pytest.mark.parametrize(("before", "after"), [(6, 6), (8, 8), (8, 16), (17, 32), (2, 9)])
def test_two_samples_agree_with_scipy(before, after):
    rng = np.random.default_rng(before)
    first, second = rng.normal(0, 1, before), rng.standard_t(3, after)
    oracle = stats.ttest_ind(second, first, equal_var=False, trim=1 / 8)
    gap = difference(trimmed_mean(list(first)), trimmed_mean(list(second)))
    limits = oracle.confidence_interval(1 - 2 * 0.003)
    assert gap.freedom == pytest.approx(oracle.df, rel=1e-12)
    assert logs_of(bounds(gap, alpha=0.003)) == pytest.approx((limits.low, limits.high), rel=1e-9)


def test_order_of_passes_does_not_matter():
    assert trimmed_mean(GAIN) == trimmed_mean(GAIN[::-1])


def test_bounds_spend_the_alpha_of_the_look():
    # From a table of Student's t: 0.998 with 5 degrees of freedom, and 0.995 with 23.
    assert logs_of(bounds(LogEstimate(0.0, 0.01, 5, 8)))[1] == pytest.approx(0.0503, abs=1e-5)
    assert logs_of(bounds(LogEstimate(0.0, 0.01, 23, 32)))[1] == pytest.approx(0.02807, abs=1e-5)


@pytest.mark.parametrize(
    ("passes", "alpha"), [(1, 0.002), (8, 0.002), (15, 0.002), (16, 0.003), (31, 0.003), (32, 0.005), (99, 0.005)]
)
def test_alpha_is_that_of_the_largest_look_reached(passes, alpha):
    assert alpha_at(passes) == alpha


def test_one_pass_bounds_nothing():
    assert bounds(trimmed_mean([math.log(3.0)])) == Ratio(pytest.approx(3.0), 0.0, math.inf, 1)
    assert bounds(difference(trimmed_mean([0.0]), trimmed_mean([0.1] * 8))).high == math.inf


def test_wild_times_do_not_overflow():
    assert bounds(trimmed_mean([-300.0, 300.0])).high == math.inf


def test_passes_without_noise_give_a_point():
    assert bounds(difference(trimmed_mean([0.0] * 8), trimmed_mean([math.log(2)] * 8))) == Ratio(2.0, 2.0, 2.0, 8)


def test_holm_as_published():
    # The worked example of "Holm-Bonferroni method": sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1, never falling.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


@pytest.mark.parametrize(("hits", "trials"), [(0, 40), (40, 40), (2, 44), (38, 60), (1, 1)])
def test_clopper_pearson_agrees_with_scipy(hits, trials):
    oracle = stats.binomtest(hits, trials).proportion_ci(0.95, method="exact")
    assert clopper_pearson(hits, trials) == pytest.approx((oracle.low, oracle.high), rel=1e-9)


def test_clopper_pearson_of_no_hits_is_known_in_closed_form():
    assert clopper_pearson(0, 40) == pytest.approx((0.0, 1 - 0.025 ** (1 / 40)))


@pytest.mark.parametrize(("hits", "trials"), [(-1, 5), (6, 5), (0, 0)])
def test_clopper_pearson_refuses_impossible_counts(hits, trials):
    with pytest.raises(ValueError, match="between 0 and the trials"):
        clopper_pearson(hits, trials)


def test_mean_over_rows_replicates_passes_and_not_rows():
    row = {("r", i): log for i, log in enumerate(GAIN)}
    assert mean_over_rows([row]) == mean_over_rows([row, row, row])
    assert mean_over_rows([row]).error == pytest.approx(math.sqrt(3.084 / 56))


def test_mean_over_rows_averages_noise_that_passes_do_not_share():
    rows = [{("r", i): log for i, log in enumerate(values)} for values in ((0.0, 2.0, 0.0, 2.0), (0.0, 0.0, 2.0, 2.0))]
    # Averages per pass 0, 1, 1, 2: sum of squares 2, standard error sqrt(2 / 12).
    assert mean_over_rows(rows) == LogEstimate(1.0, pytest.approx(math.sqrt(2 / 12)), 3, 4)


def test_mean_over_rows_that_miss_passes():
    rows = [{("r", 1): 0.0, ("r", 2): 1.0}, {("r", 2): 0.0, ("r", 3): 1.0}]
    # Contributions -1/8, 0 and 1/8 of the three passes: variance 3/2 (2/64).
    assert mean_over_rows(rows) == LogEstimate(0.5, pytest.approx(math.sqrt(3 / 64)), 2, 3)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (Ratio(1.04, 1.0101, 1.08, 8), "slower"),
        (Ratio(1.02, 1.0101, 1.03, 8), "slower"),
        (Ratio(1.04, 1.0100, 1.08, 8), "undecided"),
        (Ratio(0.96, 0.90, 0.99, 8), "faster"),
        (Ratio(0.96, 0.90, 0.9905, 8), "undecided"),
        (Ratio(1.00, 0.991, 1.009, 8), "same"),
        (Ratio(1.00, 0.990, 1.009, 8), "undecided"),
        (Ratio(1.00, 0.991, 1.011, 8), "undecided"),
        (Ratio(1.03, 0.999, 1.049, 8), "undecided"),
        (Ratio(1.00, 1 / 1.01, 1.01, 8), "same"),
        (Ratio(3.00, 2.9, 3.1, 6), "slower"),
        (Ratio(3.00, 2.9, 3.1, 5), "undecided"),
        (Ratio(1.00, 1.0, 1.0, 5), "undecided"),
    ],
)
def test_verdict(change, says):
    assert verdict(change) == says


def test_verdict_follows_delta():
    change = Ratio(1.04, 1.02, 1.06, 8)
    assert (verdict(change, delta=0.0), verdict(change, delta=0.02)) == ("slower", "undecided")
    assert verdict(Ratio(0.45, 0.4, 0.5, 8), delta=1.0) == "undecided"  # at the threshold, and not beyond
    assert [verdict(Ratio(1.0, 0.953, 1.049, 8), delta) for delta in (0.05, 0.049)] == ["same", "undecided"]
    assert [verdict(Ratio(1.0, 0.99, high, 8), delta=0.02) for high in (1.02, 1.021)] == ["same", "undecided"]


def test_nothing_measured_is_the_same_to_the_last_digit():
    assert verdict(Ratio(1.0, 0.9999, 1.0001, 32), delta=0.0) == "undecided"
    assert verdict(Ratio(1.0, 1.0, 1.0, 8), delta=0.0) == "same"


def test_a_slowdown_is_excluded_by_the_upper_bound_of_six_passes():
    assert [excludes(Ratio(1.0, 0.9, 1.03, passes), 0.03) for passes in (5, 6, 32)] == [False, True, True]
    assert not excludes(Ratio(0.9, 0.8, 1.0301, 32), 0.03)


def test_one_pass_is_a_median_of_unknown_error_on_one_degree_of_freedom():
    assert trimmed_mean([0.5]) == LogEstimate(0.5, math.inf, 1, 1)


def test_a_side_of_one_pass_leaves_the_ratio_open():
    change = difference(trimmed_mean([0.0]), trimmed_mean(GAIN))
    assert (bounds(change).low, bounds(change).high) == (0.0, math.inf)


def test_the_smallest_effect_of_wild_times_is_infinite():
    assert smallest_effect(LogEstimate(0.0, 1000.0, 5, 8)) == math.inf


def test_smallest_effect_is_found_in_95_of_100():
    change = LogEstimate(0.3, 0.02, 21, 32)
    shift = (math.log1p(smallest_effect(change)) - math.log(1.01)) / 0.02
    assert float(stats.nct.sf(stats.t.ppf(0.995, 21), 21, shift)) == pytest.approx(0.95, abs=0.01)


def test_fewer_than_six_passes_detect_nothing():
    assert smallest_effect(trimmed_mean([0.0, 0.01] * 2 + [0.0])) == math.inf
    assert smallest_effect(trimmed_mean([0.0, 0.01] * 3)) < 0.1


@pytest.mark.parametrize(("log", "gap"), [(0.0, LEAST), (-0.003, LEAST - 0.003), (-0.1, 0.1 - LEAST)])
def test_passes_needed_bring_the_bound_past_the_threshold(log, gap):
    def reach(passes):
        freedom = 13 * passes / 16
        alpha = next(alpha for look, alpha in reversed(LOOKS) if passes >= look)
        return (stats.t.isf(alpha, freedom) + stats.t.isf(0.05, freedom)) * 0.03 * math.sqrt(16 / passes)

    needed = passes_needed(LogEstimate(log, 0.03, 13, 16))
    assert reach(needed) <= gap < reach(needed - 1)


def test_passes_needed_are_at_least_six_and_may_be_unknown():
    assert passes_needed(LogEstimate(0.5, 1e-9, 2, 3)) == 6
    assert passes_needed(trimmed_mean([0.0])) is None
    # At the threshold itself no number of passes decides.
    assert passes_needed(LogEstimate(math.log1p(0.1), 0.01, 5, 8), delta=0.1) is None


@pytest.mark.parametrize("sign", [1, -1])
def test_p_value_is_one_sided_beyond_delta(sign):
    values = sign * np.random.default_rng(1).normal(0.03, 0.02, 7)
    oracle = stats.ttest_1samp(sign * values, math.log(1.01), alternative="greater").pvalue
    assert p_value(trimmed_mean(list(values))) == pytest.approx(oracle, rel=1e-9)


def test_p_value_without_noise():
    assert (p_value(LogEstimate(0.1, 0.0, 5, 8)), p_value(LogEstimate(0.0, 0.0, 5, 8))) == (0.0, 1.0)
    assert p_slower(LogEstimate(math.log1p(0.05), 0.0, 5, 8), 0.05) == 1.0


def test_lead_is_over_the_passes():
    modes = np.array([1.7, 1.7, 1.7, 1.0, 1.7, 1.0, 1.0, 1.0])
    ahead = lead(2e-6 * modes, 3e-6 * modes)
    assert (ahead.ratio, ahead.low, ahead.high) == pytest.approx((1.5, 1.5, 1.5))
    assert ahead.passes == 8


def test_lead_needs_a_common_pass():
    with pytest.raises(ValueError, match="^no process timed both kernels; only kernels that took turns can be ranked$"):
        lead(np.array([]), np.array([]))


@pytest.mark.parametrize(("values", "median"), [([3.0, 1.0, 2.0], 2.0), ([4.0, 1.0, 2.0, 8.0], 3.0), ([7.0], 7.0)])
def test_the_middle_is_the_median(values, median):
    assert middle(np.array(values)) == median


def two_speeds(rng, passes):
    """Log times of passes on a shared core: about half of them 1.65 times slower, some in between."""
    return list(math.log(1.65) * rng.choice([0, 0.5, 1], passes, p=[0.4, 0.15, 0.45]) + rng.normal(0, 0.03, passes))


@pytest.mark.parametrize("passes", [8, 16, 32])
def test_two_speeds_raise_no_false_alarm(passes):
    rng = np.random.default_rng(20)
    repeats = 1500
    changes = [difference(*(trimmed_mean(two_speeds(rng, passes)) for _ in range(2))) for _ in range(repeats)]
    alarms = sum(verdict(bounds(change)) in ("slower", "faster") for change in changes)
    assert alarms <= 0.01 * repeats


def look_by_look(rng, effect):
    """The verdict on paired passes, a few of them off by 10%, going on to the next look while undecided."""
    logs = effect + rng.normal(0, 0.018, 32) + rng.choice([0, 0.1, -0.1], 32, p=[0.94, 0.03, 0.03])
    verdicts = (verdict(bounds(trimmed_mean(list(logs[:passes])))) for passes, _ in LOOKS)
    return next((says for says in verdicts if says != "undecided"), "undecided")


def test_three_looks_find_five_percent_and_nothing_else():
    rng = np.random.default_rng(21)
    assert sum(look_by_look(rng, 0.0) in ("slower", "faster") for _ in range(400)) <= 4
    assert sum(look_by_look(rng, math.log(1.05)) == "slower" for _ in range(400)) >= 390
