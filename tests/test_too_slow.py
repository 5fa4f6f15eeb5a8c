"""What is too slow where there is a limit: a claim about all rows at once."""

import random

import pytest
from measured import STEADY, passes, refused, scaled
from pairs_of_runs import only_row, yardsticks

from gradkernels.bench.compare.compare import compare
from gradkernels.bench.compare.exit_codes import Exit
from gradkernels.bench.compare.thresholds import Override, Thresholds


@pytest.mark.parametrize(("limit", "fails"), [(0.0, True), (0.05, True), (0.1, False)])
def test_too_slow_asks_the_lower_bound_of_a_lone_row(limit, fails):
    sides = passes(STEADY), passes(scaled(STEADY, 1.1), run="run-b")
    row = only_row(*sides, thresholds=Thresholds(fail_slower=limit))
    assert 1.05 < row.low < 1.1
    assert row.too_slow is fails


def test_delta_is_what_a_change_must_exceed():
    before, after = passes(STEADY), passes(scaled(STEADY, 1.1), run="run-b")
    assert only_row(before, after, thresholds=Thresholds(delta=0.1)).verdict == "undecided"


def suite_of(kernels, factor, first):
    """Rows of so many kernels on two sides; the first kernel is slower by `first`, the others by `factor`."""
    names = [f"numpy.k{i}.norms" for i in range(kernels)]
    before = [row for name in names for row in passes(STEADY, kernel=name)]
    factors = [first, *[factor] * (kernels - 1)]
    return before, [
        row
        for name, by in zip(names, factors, strict=True)
        for row in passes(scaled(STEADY, by), kernel=name, run="run-b")
    ]


def test_too_slow_is_a_claim_about_all_rows_at_once():
    limit = Thresholds(fail_slower=0.05)
    alone, *_ = compare(*suite_of(1, 1.0, 1.055), limit).rows
    assert (alone.verdict, alone.too_slow) == ("slower", True)
    among = compare(*suite_of(60, 1.0, 1.055), limit)
    assert (among.rows[0].verdict, among.too_slow) == ("slower", ())
    assert among.rows[0].p_too_slow == pytest.approx(60 * alone.p_too_slow)
    assert [row.kernel for row in compare(*suite_of(60, 1.0, 1.2), limit).too_slow] == ["numpy.k0.norms"]


def test_rows_without_a_limit_or_with_too_few_passes_are_no_part_of_the_claim():
    before, after = suite_of(20, 1.0, 1.08)
    only = Thresholds(overrides=(Override(kernels=("numpy.k0.*",), fail_slower=0.05),))
    assert [row.kernel for row in compare(before, after, only).too_slow] == ["numpy.k0.norms"]
    few = [row for row in after if row.kernel == "numpy.k0.norms" or row.pass_ <= 5]
    assert len(compare(before, few, Thresholds(fail_slower=0.05)).too_slow) == 1
    assert compare(before, [row for row in after if row.pass_ <= 5], Thresholds(fail_slower=0.0)).too_slow == ()


def test_a_suite_without_a_change_fails_about_as_seldom_as_one_row_would():
    rng = random.Random(6)
    limit, failed, called = Thresholds(delta=0.0, fail_slower=0.0), 0, 0
    for _ in range(100):
        sides = [
            [
                row
                for i in range(20)
                for row in passes([rng.lognormvariate(0, 0.05) for _ in range(8)], kernel=f"a.k{i}.norms", run=run)
            ]
            for run in ("run-a", "run-b")
        ]
        comparison = compare(*sides, limit)
        failed += comparison.exit_code(False) == Exit.slower
        called += comparison.counts["slower"] > 0
    assert failed <= 1
    assert called >= 3


@pytest.mark.parametrize(
    ("factor", "limit", "too_slow", "excluded"),
    [(1.06, 0.05, True, False), (1.05, 0.05, False, False), (1.04, 0.05, False, True), (1.0, 0.0, False, True),
     (1.012, 0.0, False, False)],
)  # fmt: skip
def test_a_limit_is_exceeded_excluded_or_open(factor, limit, too_slow, excluded):
    row = only_row(
        passes(STEADY), passes(scaled(STEADY, factor), run="run-b"), thresholds=Thresholds(fail_slower=limit)
    )
    assert (row.too_slow, row.excluded, row.open) == (too_slow, excluded, not (too_slow or excluded))


def test_a_limit_is_open_on_few_passes_and_none_is_where_nothing_was_timed_or_nothing_stands():
    limit, six = Thresholds(fail_slower=0.5), passes(STEADY[:6], run="run-b")
    assert [only_row(passes(STEADY), six[:count], thresholds=limit).open for count in (5, 6)] == [True, False]
    assert not only_row(passes(STEADY), refused("failed", run="run-b"), thresholds=limit).open
    contaminated = compare(passes(STEADY) + yardsticks(STEADY, scaled(STEADY, 2)), six[:5], limit)
    assert [(row.verdict, row.excluded, row.open) for row in contaminated.rows] == [("contaminated", False, False)]


def test_without_a_limit_what_is_undecided_is_open():
    rows = [
        only_row(passes(STEADY), passes(scaled(STEADY, factor), run="run-b")) for factor in (0.9, 0.988, 1, 1.012, 1.1)
    ]
    assert [(row.verdict, row.open) for row in rows] == [
        ("faster", False), ("undecided", True), ("same", False), ("undecided", True), ("slower", False),
    ]  # fmt: skip
    assert not any(row.excluded for row in rows)
