"""Comparing two sets of records: what is matched, what is refused, what is said."""

import random

import pytest
from measured import KERNEL, NOISY, STEADY, changed, passes, record, refused, scaled
from pairs_of_runs import only_row, yardsticks

from gradkernels.bench.compare.compare import compare
from gradkernels.bench.compare.exit_codes import Exit
from gradkernels.bench.compare.matching import select
from gradkernels.bench.compare.thresholds import Override, Thresholds
from gradkernels.bench.results.table import tabulate


@pytest.mark.parametrize(
    ("factor", "says"), [(1.1, "slower"), (0.9, "faster"), (1.0, "same"), (1.012, "undecided"), (0.988, "undecided")]
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
    after = [changed(row, run="run-b") for row in before]
    random.Random(0).shuffle(after)
    comparison = compare(before, after)
    assert len(comparison.rows) == 9
    assert comparison.counts == {"slower": 0, "faster": 0, "same": 9, "undecided": 0}
    assert [row.case.n for row in comparison.rows] == [10, 10, 10, 100, 100, 100, 1000, 1000, 1000]


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


@pytest.mark.parametrize("several", ["before", "after"])
def test_force_takes_no_two_machines_for_one_sample(several):
    """A and B are each of one run, so that no pass is there twice."""
    both = [*passes(STEADY, machine="a", run="run-a"), *passes(scaled(STEADY, 9.0), machine="b", run="run-b")]
    one = passes(STEADY, run="run-c")
    sides = (both, one) if several == "before" else (one, both)
    says = f"{several} holds kernel numpy.loop.norms of norms at n=100 for machine a and b, which forced would count"
    with pytest.raises(ValueError, match=says):
        compare(*sides, force=True)
    apart = [*both[:8], *passes(STEADY, machine="b", run="run-b", kernel="numpy.matmul.norms")]
    assert [row.verdict for row in compare(apart, [changed(row, machine="c") for row in apart], force=True).rows] == [
        "same",
        "same",
    ]


def test_force_does_not_mix_thread_counts_of_one_run():
    before = passes(STEADY) + passes(STEADY, threads=4)
    with pytest.raises(ValueError, match="before holds kernel numpy"):
        compare(before, passes(STEADY, threads=2, run="run-b"), force=True)


@pytest.mark.parametrize("change", [{"n": 10}, {"kernel": "a.b.norms"}, {"problem": "logistic"}])
@pytest.mark.parametrize("machine", ["desk", "lap"])
def test_other_work_is_not_compared_even_by_force(change, machine):
    comparison = compare(passes(STEADY), passes(STEADY, machine=machine, **change), force=True)
    assert next(iter(change)) in comparison.nothing
    assert (comparison.ignored, comparison.compared, len(comparison.rows)) == ((), (), 2)
    assert comparison.exit_code(False) == Exit.unmeasured == 5


def test_crossed_coordinates_leave_nothing_to_compare():
    before = passes(STEADY, n=10) + passes(STEADY, n=20, dtype="float32")
    comparison = compare(before, passes(STEADY, n=20) + passes(STEADY, n=10, dtype="float32"))
    assert comparison.nothing == "no row of before has the machine, case and kernel of a row of after"
    assert comparison.compared == ()


@pytest.mark.parametrize("records", [[], passes(STEADY, kernel="control")])
def test_a_file_without_kernels_has_nothing_in_common(records):
    comparison = compare(passes(STEADY), records)
    assert comparison.nothing.startswith("after has no row of a kernel; `gradkernels run` writes them")
    assert comparison.exit_code(False) == 5


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


def test_what_no_longer_ends_in_time_is_too_slow_where_there_is_a_limit():
    gone, limit = refused("timeout", run="run-b"), Thresholds(fail_slower=9.0)
    assert [row.stopped for row in compare(passes(STEADY), gone, limit).too_slow] == [True]
    assert compare(passes(STEADY), gone).too_slow == ()
    borderline = passes(STEADY)[:-1] + refused("timeout")[-1:]
    assert compare(borderline, gone, limit).too_slow == ()


def test_passes_cut_short_leave_the_others_to_be_compared():
    after = passes(STEADY, run="run-b")[:-1] + refused("timeout", run="run-b")[-1:]
    row = only_row(passes(STEADY), after)
    assert (row.status_after, row.passes_after, row.verdict) == ("ok", 7, "same")


def test_what_is_gone_or_can_no_longer_be_computed_is_missing():
    there = [*passes(STEADY), *passes(STEADY, n=10), *refused("unsupported", n=1000), *passes(STEADY, n=5)]
    after = [*refused("unsupported"), *refused("timeout", n=10), *refused("unsupported", n=1000)]
    comparison = compare(there, [changed(row, run="run-b") for row in after])
    assert [(row.case.n, row.status_before, row.status_after) for row in comparison.missing] == [
        (5, "ok", ""),
        (100, "ok", "unsupported"),
    ]
    assert [(int(comparison.exit_code(fail_missing=asked))) for asked in (False, True)] == [5, 6]
    renamed = compare(passes(STEADY), passes(STEADY, kernel="numpy.renamed.norms", run="run-b"))
    assert [row.kernel for row in renamed.missing] == [KERNEL]
    assert compare(passes(STEADY), passes(STEADY) + passes(STEADY, n=7)).missing == ()


def test_delta_is_the_least_that_fails():
    before, after = passes(STEADY), passes(scaled(STEADY, 1.1), run="run-b")
    assert not only_row(before, after, thresholds=Thresholds(delta=0.2, fail_slower=0.05)).too_slow
    assert only_row(before, after, thresholds=Thresholds(delta=0.0, fail_slower=0.05)).too_slow


def test_each_case_has_its_own_thresholds():
    thresholds = Thresholds(
        fail_slower=0.05, overrides=(Override(high=50, fail_slower=0.3), Override(low=1000, delta=0.2))
    )
    before = [row for n in (10, 100, 1000) for row in passes(STEADY, n=n)]
    after = [row for n in (10, 100, 1000) for row in passes(scaled(STEADY, 1.1), n=n, run="run-b")]
    comparison = compare(before, after, thresholds)
    assert [(row.case.n, row.verdict, row.too_slow) for row in comparison.rows] == [
        (10, "slower", False),
        (100, "slower", True),
        (1000, "same", False),
    ]
    assert [(row.excluded, row.open) for row in comparison.rows] == [(True, False), (False, False), (True, False)]
    assert [(row.delta, row.fail_slower) for row in comparison.rows] == [(0.01, 0.3), (0.01, 0.05), (0.2, 0.05)]


def test_an_override_that_matches_no_row_is_told():
    thresholds = Thresholds(overrides=(Override(kernels=("numpi.*",)), Override(kernels=("numpy.*",))))
    assert compare(passes(STEADY), passes(STEADY), thresholds).unused == ("kernel numpi.*",)


def test_a_control_that_could_not_be_timed_divides_nothing():
    broken = refused("failed", 1, kernel="control") + passes(STEADY, kernel="control")[1:]
    whole = passes(STEADY, kernel="control", run="run-b")
    row = only_row(passes(STEADY) + broken, passes(scaled(STEADY, 1.7), run="run-b") + whole)
    assert (row.normalised, row.verdict) == (False, "slower")


def test_times_at_the_ends_of_the_scale_are_compared():
    before, after = [1e-320, 1e-300] * 4, [1e300, 1e308] * 4
    row = only_row(
        passes(before) + passes(after, kernel="control"),
        passes(after, run="run-b") + passes(before, kernel="control", run="run-b"),
    )
    assert (row.verdict, row.high) == ("slower", float("inf"))


@pytest.mark.parametrize(
    ("records", "fail_undecided", "code"),
    [
        (passes(STEADY), True, Exit.done),
        (passes(NOISY), False, Exit.done),
        (passes(NOISY), True, Exit.undecided),
        (passes(scaled(STEADY, 1.2)), True, Exit.slower),
        (refused("timeout"), True, Exit.slower),
        (refused("unsupported"), True, Exit.unmeasured),
        (refused("wrong"), True, Exit.unproven),
        (refused("failed"), False, Exit.unproven),
        (passes(STEADY)[:-1] + refused("wrong")[-1:], False, Exit.unproven),
    ],
)
def test_what_fails_most_decides_the_exit_code(records, fail_undecided, code):
    after = [changed(row, run="run-b") for row in records]
    assert compare(passes(STEADY), after, Thresholds(fail_slower=0.05)).exit_code(fail_undecided) == code


def test_a_failed_proof_outweighs_a_flagged_canary():
    bad = yardsticks(STEADY, scaled(STEADY, 2))
    assert compare(passes(STEADY) + bad, refused("wrong", run="run-b")).exit_code(False) == Exit.unproven


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
    keys = ["numpy.loop.norms", "torch.vmap+.norms", "torch.vmap[chunk=5].norms", "torch.vmap.norms@out"]
    keys += ["control", "canary"]
    sides = [tabulate([record(kernel=key, seconds_median=1.0)]) for key in keys]

    def picked(*patterns):
        return {kernel for side in select(sides, patterns) for kernel in side.used("kernel")} - {"control", "canary"}

    assert picked() == set(keys[:4])
    assert picked("numpy.loop") == {"numpy.loop.norms"}
    assert picked("torch.vmap") == {"torch.vmap+.norms", "torch.vmap.norms@out"}
    assert picked("torch.vmap[chunk=5]") == {"torch.vmap[chunk=5].norms"}
    assert picked("torch.vmap.norms") == {"torch.vmap+.norms", "torch.vmap.norms@out"}
    assert picked("torch.*", "numpy.loop.norms") == set(keys[:4])
    assert [len(side) for side in select(sides, ["numpy.*"])] == [1, 0, 0, 0, 1, 1]


def test_select_refuses_what_matches_nothing():
    sides = [tabulate(passes(STEADY)), tabulate(passes(STEADY, quantity="gradient", kernel="numpy.loop.gradient"))]
    with pytest.raises(ValueError, match=r"no kernel 'numpy\.loup'; did you mean numpy\.loop"):
        select(sides, ["numpy.loup"])
    with pytest.raises(ValueError, match="no quantity 'norm'; did you mean norms"):
        select(sides, [], "norm")
    assert [len(side) for side in select(sides, [], "gradient")] == [0, 8]
