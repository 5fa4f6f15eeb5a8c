"""How the seconds of a pass are shared, and which kernels are too slow for their share."""

from __future__ import annotations

import pytest

from gradkernels.bench.run.budget import Budget, predicted

BUDGET = Budget(sizes=(1, 10, 1000), allowance=14.0, text="1m")  # weights 1, 2 and 4


def test_a_loop_is_predicted_in_proportion_and_others_with_a_fixed_cost():
    assert predicted([], 1000, loops=False) == 0.0
    assert predicted([(10, 1e-3)], 1000, loops=True) == pytest.approx(0.1)
    assert predicted([(10, 1e-3)], 1000, loops=False) == 1e-3
    # 1 ms fixed and 10 us per sample.
    assert predicted([(10, 1.1e-3), (100, 2e-3)], 1000, loops=False) == pytest.approx(11e-3)


def test_what_got_faster_with_n_is_not_predicted_to_get_faster_still():
    assert predicted([(10, 2e-3), (100, 1e-3)], 1000, loops=False) == 1e-3


@pytest.mark.parametrize(("case", "seconds"), [(0, 2.0), (1, 14 * 2 / 6), (2, 14.0)])
def test_larger_cases_get_more_of_what_is_left_and_the_last_all_of_it(case, seconds):
    assert BUDGET.share(case, left=14.0) == pytest.approx(seconds)


def test_one_kernel_may_take_three_tenths_of_its_case():
    assert [BUDGET.fair(n) for n in (1, 10, 1000)] == pytest.approx([0.6, 1.2, 2.4])


def test_eight_calls_must_fit_the_fair_share():
    assert BUDGET.refusal([(100, 0.0299)], 1000, loops=True) == ""
    assert BUDGET.refusal([(100, 0.031)], 1000, loops=True) == (
        "too slow for the budget: a call would take about 0.31 s (0.031 s at n = 100), and 8 calls do not fit "
        "the 2.4 s that --budget 1m leaves one kernel per pass here"
    )
    assert BUDGET.refusal([], 10**9, loops=True) == ""
