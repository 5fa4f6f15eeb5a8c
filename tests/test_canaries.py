"""Canaries: computations that nobody changed and that must come out alike on both sides."""

import random

import pytest
from measured import KERNEL, STEADY, changed, passes, scaled
from pairs_of_runs import yardsticks

from gradkernels.bench.compare.canary import judge_canaries
from gradkernels.bench.compare.compare import compare
from gradkernels.bench.compare.exit_codes import Exit
from gradkernels.bench.compare.thresholds import Thresholds
from gradkernels.bench.results.table import aligned_tables, tabulate
from gradkernels.bench.stats.verdict import verdict


def test_a_canary_that_sings_alike_vouches_for_the_rows():
    quiet = yardsticks(STEADY, STEADY[::-1])
    comparison = compare(passes(STEADY) + quiet, passes(scaled(STEADY, 1.2)) + quiet)
    assert [canary.where for canary in comparison.canaries] == ["before", "after", "between the two sides"]
    assert [row.verdict for row in comparison.rows] == ["slower"]
    assert comparison.flagged == ()


@pytest.mark.parametrize(("side", "where"), [(0, "before"), (1, "after")])
@pytest.mark.parametrize("factor", [1.05, 0.95])
def test_a_canary_that_differs_from_the_control_leaves_no_verdict(side, where, factor):
    good, bad = yardsticks(STEADY, STEADY[::-1]), yardsticks(STEADY, scaled(STEADY, factor))
    sides = [passes(STEADY) + good, passes(scaled(STEADY, 1.5), run="run-b")]
    sides[1] += [changed(row, run="run-b") for row in good]
    sides[side] = [row for row in sides[side] if row.kernel == KERNEL]
    sides[side] += [changed(row, run=sides[side][0].run) for row in bad]
    comparison = compare(*sides, Thresholds(fail_slower=0.05))
    assert where in {canary.where for canary in comparison.flagged}
    assert [row.verdict for row in comparison.rows] == ["contaminated"]
    assert (comparison.too_slow, comparison.mean) == ((), None)
    assert comparison.exit_code(True) == Exit.unmeasured


def test_a_canary_that_changes_between_the_sides_leaves_no_verdict():
    before = passes(STEADY) + yardsticks(STEADY, scaled(STEADY, 0.992))
    after = passes(STEADY, run="run-b") + yardsticks(STEADY, scaled(STEADY, 1.008), run="run-b")
    (flagged,) = compare(before, after).flagged
    assert flagged.where == "between the two sides"
    assert flagged.change.ratio == pytest.approx(1.016, abs=0.001)


def test_canaries_of_many_cases_flag_a_clean_suite_about_as_seldom_as_one_would():
    rng = random.Random(6)

    def noise():
        return [rng.lognormvariate(0, 0.05) for _ in range(8)]

    flagged, called = 0, 0
    for _ in range(60):
        side = [row for n in range(1, 31) for row in yardsticks(STEADY, noise(), n=n)]
        canaries = judge_canaries(aligned_tables([tabulate(side), tabulate([])]), ("before", "after"), delta=0.0)
        flagged += any(canary.flagged for canary in canaries)
        called += any(verdict(canary.change, delta=0.0) in ("slower", "faster") for canary in canaries)
    assert flagged <= 3
    assert called >= 8


def test_few_passes_of_a_canary_flag_nothing():
    bad = yardsticks(STEADY[:5], scaled(STEADY[:5], 2))
    assert compare(passes(STEADY) + bad, passes(STEADY)).flagged == ()
