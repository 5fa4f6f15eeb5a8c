"""Files of several machines: ratios within a machine, and one verdict over all of them."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from measured import STEADY, changed, passes, scaled
from scipy.stats import t

import gradkernels as gk
from gradkernels.bench.cli import main
from gradkernels.bench.compare.compare import compare
from gradkernels.bench.compare.exit_codes import Exit
from gradkernels.bench.compare.thresholds import DEFAULT_THRESHOLDS
from gradkernels.bench.report.comparison_table import as_csv, as_json, markdown, table
from gradkernels.bench.report.comparison_text import summary_sentences
from gradkernels.bench.stats.estimates import LogEstimate, mean_over_strata
from gradkernels.record import HEADER, append


def swinging(log, noise):
    """Six times whose logarithms are by turns below and above a middle."""
    return [math.exp(log + sign * noise) for sign in (-1, 1) * 3]


def sides(**machines):
    """Rows before and after: of each machine the logarithm of a call, of the ratio, and the noise."""
    before, after = [], []
    for name, (log, change, noise) in machines.items():
        before += passes(swinging(log, noise), machine=name, run=f"{name}-1")
        after += passes(swinging(log + change, noise), machine=name, run=f"{name}-2")
    return before, after


TWO = {"fast": (-9.0, 0.2, 0.01), "slow": (-4.0, 0.1, 0.02)}


def test_the_verdict_over_machines_is_the_mean_of_their_ratios():
    comparison = compare(*sides(**TWO))
    assert [(row.machine, round(math.log(row.ratio), 12)) for row in comparison.rows] == [("fast", 0.2), ("slow", 0.1)]
    (row,) = comparison.over_machines
    # Six values e from their mean: squared error e^2 / 5 a side, on 5 degrees of freedom; 2 e^2 / 5 of a difference,
    # on 10; of the mean of both (2 + 8) e^2 / 20, on 10^2 / (2^2 / 10 + 8^2 / 10), for e = 0.01.
    reach = t.ppf(0.998, 100 / 6.8) * 0.01 / math.sqrt(2)
    expected = [math.exp(0.15 + sign * reach) for sign in (-1, 0, 1)]
    assert [row.low, row.ratio, row.high] == pytest.approx(expected, rel=1e-9)
    assert (row.machine, row.verdict, row.passes_before, row.passes_after) == ("2 machines", "slower", 12, 12)
    assert (row.seconds_before, row.seconds_after) == (None, None)


def test_how_fast_a_machine_is_does_not_matter():
    other = {**TWO, "slow": (3.0, *TWO["slow"][1:])}
    (one,), (two,) = (compare(*sides(**machines)).over_machines for machines in (TWO, other))
    assert (one.low, one.ratio, one.high) == pytest.approx((two.low, two.ratio, two.high), rel=1e-9)


def test_files_of_one_machine_are_pooled_within_it():
    before, after = sides(**TWO)
    parts = [changed(row, run=f"{row.run}-{row.pass_ % 2}") for row in before]
    assert compare(parts, after).over_machines == compare(before, after).over_machines


def test_what_no_machine_can_tell_alone_is_told_by_all_and_fails_the_gate():
    before, after = sides(**{name: (-7.0, math.log(1.1), 0.05) for name in "abcd"})
    comparison = compare(before, after, replace(DEFAULT_THRESHOLDS, fail_slower=0.02))
    assert {row.verdict for row in comparison.rows} == {"undecided"}
    (row,) = comparison.over_machines
    assert (row.verdict, row.too_slow, comparison.exit_code()) == ("slower", True, Exit.slower)
    said = summary_sentences(comparison)
    assert "TOO SLOW: numpy.loop.norms over 4 machines at n = 100 is slower by more than 2.0%: 1.100" in said
    assert "over machines, whose ratios count the same: 1 slower, 0 faster, 0 same, 0 undecided" in said
    assert compare(before, before, replace(DEFAULT_THRESHOLDS, fail_slower=0.02)).exit_code() == Exit.done


def test_a_change_that_machines_answer_differently_is_seen_on_each():
    comparison = compare(*sides(up=(-7.0, 0.1, 0.001), down=(-7.0, -0.1, 0.001)))
    assert [row.verdict for row in comparison.rows] == ["faster", "slower"]
    assert comparison.over_machines[0].ratio == pytest.approx(1)
    assert comparison.over_machines[0].verdict == "same"


def test_machines_on_one_side_alone_and_single_machines_have_no_part_in_it():
    before, after = sides(**TWO)
    lone = passes(STEADY, machine="lone", run="x")
    assert compare([*before, *lone], after).over_machines == compare(before, after).over_machines
    assert compare(*sides(fast=TWO["fast"])).over_machines == ()
    only = [row for row in after if row.machine == "fast"]
    assert compare(before, only).over_machines == ()


def test_every_format_shows_it(tmp_path):
    comparison = compare(*sides(**TWO))
    text = table(comparison)
    assert [line for line in text.splitlines() if "norms of" in line] == [
        "norms of linear, 1 feature, float64, 1 thread, on fast",
        "norms of linear, 1 feature, float64, 1 thread, on slow",
        "norms of linear, 1 feature, float64, 1 thread, over 2 machines",
    ]
    assert "| 2 machines |" in markdown(comparison)
    (row,) = json.loads(as_json(comparison))["over_machines"]
    assert (row["machine"], row["verdict"]) == ("2 machines", "slower")
    assert "2 machines" not in as_csv(comparison)


def test_the_command_and_python_say_it(tmp_path, capsys):
    for name, rows in zip("ab", sides(**TWO), strict=True):
        (tmp_path / f"{name}.csv").write_text(HEADER)
        append(tmp_path / f"{name}.csv", rows)
    names = [str(tmp_path / f"{name}.csv") for name in "ab"]
    assert main(["compare", *names]) == 0
    assert "over 2 machines" in capsys.readouterr().out
    assert main(["compare", *names, "--fail-slower", "5%"]) == 1
    assert list(gk.compare(*names).over_machines["verdict"]) == ["slower"]


def test_identical_code_that_differs_leaves_no_verdict_over_machines_either():
    before, after = sides(**TWO)
    rows = [*passes(STEADY, kernel="control"), *passes(scaled(STEADY, 1.5), kernel="canary")]
    before += [changed(row, machine="fast", run="fast-1") for row in rows]
    (row,) = compare(before, after).over_machines
    assert (row.verdict, row.too_slow) == ("contaminated", False)


@pytest.mark.parametrize("error", [0.0, math.inf])
def test_strata_without_noise_or_with_a_single_pass_are_no_fault(error):
    found = mean_over_strata([LogEstimate(0.2, error, 3, 4), LogEstimate(0.1, error, 5, 6)])
    assert (found.log, found.error, found.freedom, found.passes) == (pytest.approx(0.15), error, 3, 10)
