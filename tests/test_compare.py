"""Comparing two sets of records: what is matched, what is refused, what is said."""

import random
from dataclasses import replace

import pytest
from measured import KERNEL, NOISY, STEADY, passes, record, refused, scaled

from gradkernels.bench.compare import compare
from gradkernels.bench.pairing import select


def only_row(before, after, **options):
    (row,) = compare(before, after, **options).rows
    return row


@pytest.mark.parametrize(
    ("factor", "says"), [(1.1, "slower"), (0.9, "faster"), (1.0, "same"), (1.03, "undecided"), (0.97, "undecided")]
)
def test_verdict_on_steady_passes(factor, says):
    row = only_row(passes(STEADY), passes(scaled(STEADY, factor), run="run-b"))
    assert row.verdict == says
    assert row.ratio == pytest.approx(factor)
    assert row.low < factor < row.high


def test_noise_makes_it_undecided_and_says_what_it_would_take():
    row = only_row(passes(NOISY), passes(scaled(NOISY, 1.1), run="run-b"))
    assert row.verdict == "undecided"
    assert row.smallest_effect > 0.5
    assert row.passes_needed > 100


@pytest.mark.parametrize("times", [STEADY, NOISY, [1.0] * 8])
def test_a_file_is_neither_slower_nor_faster_than_itself(times):
    records = passes(times) + passes(scaled(times, 7), kernel="torch.vmap.norms")
    comparison = compare(records, records)
    assert comparison.same_runs
    assert [row.ratio for row in comparison.rows] == [1.0, 1.0]
    assert {row.verdict for row in comparison.rows} <= {"same", "undecided"}
    assert comparison.mean.ratio == 1.0


def test_exchanging_the_files_inverts_the_ratio():
    one, two = passes(STEADY), passes(scaled(NOISY, 3)[:7], run="run-b")
    there, back = only_row(one, two), only_row(two, one)
    assert (there.verdict, back.verdict) == ("slower", "faster")
    assert (there.low, there.ratio, there.high) == pytest.approx((1 / back.high, 1 / back.ratio, 1 / back.low))


def test_rows_are_matched_by_case_and_kernel_and_not_by_position():
    before = [
        row
        for n, seconds in ((10, 1e-6), (100, 1e-5), (1000, 1e-4))
        for kernel, factor in ((KERNEL, 1), ("torch.vmap.norms", 3), ("torch.vmap.norms@out", 2))
        for row in passes(scaled(STEADY, seconds * factor), n=n, kernel=kernel)
    ]
    after = [replace(row, run="run-b") for row in before]
    random.Random(0).shuffle(after)
    comparison = compare(before, after)
    assert len(comparison.rows) == 9
    assert comparison.counts == {"slower": 0, "faster": 0, "same": 9, "undecided": 0}
    assert [row.n for row in comparison.rows] == [10, 10, 10, 100, 100, 100, 1000, 1000, 1000]


@pytest.mark.parametrize(
    "change",
    [
        {"n": 10},
        {"features": 3},
        {"problem": "logistic"},
        {"dtype": "float32"},
        {"threads": 2},
        {"kernel": "a.b.norms"},
    ],
)
def test_rows_that_differ_in_one_coordinate_are_not_a_pair(change):
    both = passes(STEADY)
    comparison = compare(both, both + passes(STEADY, **change))
    assert [row.verdict for row in comparison.compared] == ["same"]
    (lone,) = comparison.only_after
    assert (lone.status_before, lone.status_after, lone.passes_after) == ("", "ok", 8)
    assert compare(both + passes(STEADY, **change), both).only_before[0].status_after == ""


def test_a_slow_hour_is_divided_out_by_the_control():
    before = passes(STEADY) + passes(STEADY, kernel="control")
    after = passes(scaled(STEADY, 1.7), run="run-b") + passes(scaled(STEADY, 1.7), kernel="control", run="run-b")
    row = only_row(before, after)
    assert (row.normalised, row.verdict) == (True, "same")
    assert (row.ratio, row.low, row.high) == pytest.approx((1, 1, 1))
    assert row.seconds_after == pytest.approx(1.7)


def test_the_control_is_that_of_the_same_pass_run_and_case():
    controls = passes(NOISY, kernel="control") + passes(NOISY[::-1], kernel="control", run="run-c")
    controls += passes([5.0] * 8, kernel="control", n=10)
    before = passes(NOISY) + passes(NOISY[::-1], run="run-c")
    row = only_row(before + controls, before + controls)
    assert row.normalised
    assert (row.low, row.high) == pytest.approx((1, 1))
    assert row.passes_before == 16


def test_without_a_control_in_every_pass_of_both_files_nothing_is_divided():
    before = passes(STEADY) + passes(STEADY, kernel="control")
    after = passes(scaled(STEADY, 1.7), run="run-b") + passes(STEADY, kernel="control", run="run-b")[:-1]
    row = only_row(before, after)
    assert (row.normalised, row.verdict) == (False, "slower")
    assert row.ratio == pytest.approx(1.7)


def test_runs_in_one_file_are_pooled():
    before = passes(STEADY[:4]) + passes(STEADY[4:], run="run-b")
    row = only_row(before, passes(STEADY, run="run-c"))
    assert (row.passes_before, row.verdict) == (8, "same")


@pytest.mark.parametrize("count", [1, 5])
def test_fewer_than_six_passes_are_undecided(count):
    row = only_row(passes(STEADY), passes(scaled(STEADY, 3)[:count], run="run-b"))
    assert row.verdict == "undecided"
    assert row.passes_after == count


def test_a_measurement_given_twice_is_refused():
    with pytest.raises(
        ValueError, match=r"after holds kernel numpy.loop.norms of .*n=100.* twice for run run-a, pass 3"
    ):
        compare(passes(STEADY), passes(STEADY) + passes(STEADY)[2:3])
    with pytest.raises(ValueError, match="kernel control"):
        compare(passes(STEADY) + passes([1.0, 1.0], kernel="control") + passes([1.0], kernel="control"), passes(STEADY))


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"machine": "lap"}, "machine .desk against lap"),
        ({"threads": 2}, "threads .1 against 2"),
        ({"dtype": "f"}, "dtype"),
    ],
)
def test_other_means_are_compared_only_by_force(change, names):
    before, after = passes(STEADY), passes(STEADY, run="run-b", **change)
    with pytest.raises(ValueError, match=names + r".*force"):
        compare(before, after)
    forced = compare(before, after, force=True)
    assert forced.ignored == tuple(change)
    assert forced.rows[0].verdict == "same"


def test_a_machine_in_both_files_is_compared_and_the_others_are_not():
    before = passes(STEADY) + passes(STEADY, machine="old")
    after = passes(STEADY, run="run-b") + passes(STEADY, run="run-b", machine="new")
    comparison = compare(before, after, force=True)
    assert comparison.ignored == ()
    assert [row.machine for row in comparison.compared] == ["desk"]
    assert ([row.machine for row in comparison.only_before], [row.machine for row in comparison.only_after]) == (
        ["old"],
        ["new"],
    )


def test_force_does_not_mix_thread_counts_of_one_run():
    before = passes(STEADY) + passes(STEADY, threads=4)
    with pytest.raises(ValueError, match="before holds kernel numpy"):
        compare(before, passes(STEADY, threads=2, run="run-b"), force=True)


@pytest.mark.parametrize("change", [{"n": 10}, {"kernel": "a.b.norms"}, {"problem": "logistic"}])
def test_other_work_is_not_compared_even_by_force(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        compare(passes(STEADY), passes(STEADY, **change), force=True)


def test_crossed_coordinates_leave_nothing_to_compare():
    before = passes(STEADY, n=10) + passes(STEADY, n=20, dtype="float32")
    with pytest.raises(ValueError, match="no row of before has"):
        compare(before, passes(STEADY, n=20) + passes(STEADY, n=10, dtype="float32"))


@pytest.mark.parametrize("records", [[], passes(STEADY, kernel="control")])
def test_a_file_without_kernels_is_refused(records):
    with pytest.raises(ValueError, match="after has no row to compare"):
        compare(passes(STEADY), records)


def test_one_wrong_pass_is_a_failure_and_ends_the_comparison():
    after = passes(STEADY, run="run-b")[:-1] + refused("wrong", 8, run="run-b")[-1:]
    comparison = compare(passes(STEADY), after)
    (row,) = comparison.failures
    assert comparison.changed == (row,)
    assert (row.status_after, row.verdict, row.reason) == ("wrong", "", "it is wrong")


@pytest.mark.parametrize(
    ("was", "becomes", "fails", "changes"),
    [
        ("ok", "wrong", True, True),
        ("ok", "failed", True, True),
        ("ok", "timeout", False, True),
        ("ok", "unsupported", False, True),
        ("wrong", "wrong", True, False),
        ("wrong", "ok", False, True),
        ("failed", "failed", False, False),
        ("unsupported", "failed", False, True),
    ],
)
def test_status_decides_before_speed(was, becomes, fails, changes):
    def rows(status, **changes):
        return passes(STEADY, **changes) if status == "ok" else refused(status, **changes)

    comparison = compare(rows(was), rows(becomes, run="run-b"))
    assert comparison.compared == ()
    assert comparison.mean is None
    assert (len(comparison.failures), len(comparison.changed)) == (fails, changes)


def test_a_kernel_that_is_new_and_wrong_is_a_failure():
    after = passes(STEADY, run="run-b") + refused("wrong", kernel="torch.new.norms")
    assert [row.kernel for row in compare(passes(STEADY), after).failures] == ["torch.new.norms"]


def test_what_no_longer_ends_in_time_is_slower():
    gone = refused("timeout", run="run-b")
    assert [row.stopped for row in compare(passes(STEADY), gone).slower_than(9.0)] == [True]
    borderline = passes(STEADY)[:-1] + refused("timeout")[-1:]
    assert compare(borderline, gone).slower_than(0.0) == ()


def test_passes_cut_short_leave_the_others_to_be_compared():
    after = passes(STEADY, run="run-b")[:-1] + refused("timeout", run="run-b")[-1:]
    row = only_row(passes(STEADY), after)
    assert (row.status_after, row.passes_after, row.verdict) == ("ok", 7, "same")


def test_slower_than_asks_the_lower_bound():
    comparison = compare(passes(STEADY), passes(scaled(STEADY, 1.1), run="run-b"))
    assert 1.05 < comparison.rows[0].low < 1.1
    assert len(comparison.slower_than(0.05)) == 1
    assert comparison.slower_than(0.1) == ()
    undecided = compare(passes(STEADY), passes([3.0] * 5, run="run-b"))
    assert undecided.slower_than(0.05) == ()


def test_delta_is_what_a_change_must_exceed():
    before, after = passes(STEADY), passes(scaled(STEADY, 1.1), run="run-b")
    assert only_row(before, after, delta=0.1).verdict == "undecided"
    with pytest.raises(ValueError, match=r"delta is -0\.1"):
        compare(before, after, delta=-0.1)


def test_geometric_mean_of_a_doubling_and_a_halving_is_one():
    before = passes(STEADY) + passes(STEADY, n=10)
    after = passes(scaled(STEADY, 2), run="run-b") + passes(scaled(STEADY, 0.5), n=10, run="run-b")
    mean = compare(before, after).mean
    assert mean.ratio == pytest.approx(1.0)
    assert 0.9 < mean.low < 1.0 < mean.high < 1.1


def test_a_change_must_be_clearer_in_a_suite():
    kernels = [f"numpy.k{i}.norms" for i in range(10)]
    before = [row for kernel in kernels for row in passes(STEADY, kernel=kernel)]
    after = [
        row
        for i, kernel in enumerate(kernels)
        for row in passes(scaled(STEADY, 1.1 if i == 0 else 1.0), kernel=kernel, run="run-b")
    ]
    first, second, *_ = compare(before, after).rows
    assert first.p_suite == pytest.approx(10 * first.p)
    assert second.p_suite == 1.0


def test_select_takes_keys_ways_and_globs():
    keys = ["numpy.loop.norms", "torch.vmap+.norms", "torch.vmap[chunk=5].norms", "torch.vmap.norms@out", "control"]
    sides = [[record(kernel=key, seconds_median=1.0)] for key in keys]

    def picked(*patterns):
        return {row.kernel for side in select(sides, patterns) for row in side} - {"control"}

    assert picked() == set(keys[:4])
    assert picked("numpy.loop") == {"numpy.loop.norms"}
    assert picked("torch.vmap") == {"torch.vmap+.norms", "torch.vmap.norms@out"}
    assert picked("torch.vmap[chunk=5]") == {"torch.vmap[chunk=5].norms"}
    assert picked("torch.vmap.norms") == {"torch.vmap+.norms", "torch.vmap.norms@out"}
    assert picked("torch.*", "numpy.loop.norms") == set(keys[:4])
    assert select(sides, ["numpy.*"])[-1] == sides[-1]


def test_select_refuses_what_matches_nothing():
    sides = [passes(STEADY), passes(STEADY, quantity="gradient", kernel="numpy.loop.gradient")]
    with pytest.raises(ValueError, match=r"no kernel 'numpy\.loup'; did you mean numpy\.loop"):
        select(sides, ["numpy.loup"])
    with pytest.raises(ValueError, match="no quantity 'norm'; did you mean norms"):
        select(sides, [], "norm")
    assert [len(side) for side in select(sides, [], "gradient")] == [0, 8]
