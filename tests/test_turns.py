"""One pass, several processes: what did not take turns is not compared, and is held against its own control."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import twins
from measured import STEADY, changed, passes, record, scaled
from test_compare import only_row

import gradkernels as gk
from gradkernels.bench.compare.canary import judge_canaries
from gradkernels.bench.compare.compare import compare
from gradkernels.bench.isolation.errors import WorkerDied
from gradkernels.bench.isolation.heartbeat import Beat
from gradkernels.bench.isolation.limits import DEFAULT_LIMITS
from gradkernels.bench.report.ranking_table import cells
from gradkernels.bench.results.reader import read_results
from gradkernels.bench.results.table import aligned_tables, tabulate
from gradkernels.bench.results.turns import race_rows, rows_in_turns
from gradkernels.bench.run.messages import KernelMeasured, Orders
from gradkernels.bench.run.one_pass import OnePass, Quarantine
from gradkernels.bench.run.plan import Plan
from gradkernels.bench.run.ranking import rankings
from gradkernels.dispatch import wisdom
from gradkernels.key import Key
from gradkernels.record import HEADER, MEASURED_AGAIN, Malformed, Measurement, append, in_turns, read

A, B, C = "numpy.loop+.norms", "numpy.broadcast+.norms", "torch.vmap+.norms"


def apart(rows, *pass_numbers, factor=1.0):
    """The rows, those of these passes in a second block and so many times as long."""
    return [
        changed(row, block=2, seconds_median=factor * row.measurement.seconds_median)
        if row.pass_ in pass_numbers
        else row
        for row in rows
    ]


# What is left out.


def test_times_taken_apart_from_most_of_their_pass_are_left_out_where_there_are_others():
    lone = apart(passes(STEADY, kernel=A), 1, 2, factor=3)
    rows = [*lone, *passes(STEADY, kernel=B), *passes(STEADY, kernel=C)]
    assert in_turns(rows) == rows[2:]
    assert in_turns(lone) == lone  # alone, it is what most of its pass is
    always = [*apart(passes(STEADY, kernel=A), *range(1, 9)), *rows[8:]]
    assert in_turns(always) == always


def test_of_equal_blocks_the_first_counts_and_each_case_run_and_machine_for_itself():
    one, other = record(kernel=A, seconds_median=1.0, block=2), record(kernel=B, seconds_median=1.0, block=1)
    second = [changed(row, pass_=2, block=1) for row in (one, other)]
    assert in_turns([one, other, *second]) == [other, *second]
    for change in ({"n": 7}, {"run": "run-b"}, {"machine": "lap"}):
        kept = changed(one, **change)
        assert kept in in_turns([kept, other, *second])


def test_what_was_not_timed_is_no_part_of_a_block():
    rows = [record(kernel=kernel, status="failed", block=2) for kernel in (A, B)]
    rows += [record(kernel=C, seconds_median=1.0), record(kernel=C, pass_=2, seconds_median=1.0, block=2)]
    assert in_turns(rows) == rows


def test_of_a_table_the_same_is_left_out():
    some = [*apart(passes(STEADY, kernel=A), 1, 2), *passes(STEADY[:7], kernel=B, block=3), *passes(STEADY, kernel=C)]
    for rows in ([], some, some[:9], some[6:], some[::-1], apart(some, 3, 4)):
        table = tabulate(rows)
        kept = rows_in_turns(table, np.arange(len(rows)))
        assert [rows[one] for one in kept.tolist()] == in_turns(rows)


def test_a_winner_s_own_passes_tell_its_time_and_place_nobody():
    rows = [
        record(kernel=A, seconds_median=1.0),
        record(kernel=B, seconds_median=2.0),
        record(kernel=A, pass_=2, seconds_median=1.1, reason=f"1 round, {MEASURED_AGAIN}"),
        *(record(kernel=A, seconds_median=1.0, **other) for other in ({"n": 7}, {"run": "b"}, {"machine": "lap"})),
    ]
    race = race_rows(tabulate(rows))
    assert race.placing.tolist() == [True, True, False, True, True, True]
    assert race.timing.tolist() == [False, True, True, True, True, True]


def test_a_file_has_its_blocks_whoever_reads_it(tmp_path):
    rows, path = (
        [*apart(passes(STEADY, kernel=A), 1, 2), *passes(STEADY, kernel="control", block=2)],
        tmp_path / "x.csv",
    )
    path.write_text(HEADER)
    append(path, rows)
    assert read_results([path]).block.tolist() == [2, 2, *[1] * 6, *[2] * 8]
    assert read_results([path]).process.tolist() == tabulate(read(path)).process.tolist()
    first = "".join(line.rsplit(",", 4)[0] + "\n" for line in path.read_text().splitlines())
    path.write_text(first)
    assert read_results([path]).block.tolist() == [1] * 16
    append(path, [])
    path.write_text(first + HEADER)
    append(path, [changed(row, run="run-b") for row in rows])
    assert read_results([path]).block.tolist() == [1] * 16 + [2, 2, *[1] * 6, *[2] * 8]
    append(path, [changed(rows[-1], run="run-b", block=3)])
    append(path, [changed(rows[-1], run="run-b")])
    with pytest.raises(Malformed, match="line 34, and .*x.csv, line 36 both hold kernel control"):
        read_results([path])


# What reads results.


def test_a_ratio_is_of_times_that_one_process_took():
    rows = [*apart(passes(scaled(STEADY, 2), kernel=A), 1, 2, 3, factor=3.5), *passes(STEADY, kernel=B)]
    winner, other = rankings([*rows, *passes(scaled(STEADY, 5), kernel=C)])[0].kernels[:2]
    assert (winner.kernel, other.kernel, other.behind.passes) == (B, A, 5)
    assert other.behind.ratio == pytest.approx(2, rel=1e-9)
    assert other.seconds == pytest.approx(2, rel=0.01)
    assert other.in_turns


def test_without_a_process_in_common_there_is_no_ratio():
    rows = [*apart(passes(scaled(STEADY, 2), kernel=C), *range(1, 9)), *passes(STEADY, kernel=B)]
    ranking = rankings([*rows, *passes(scaled(STEADY, 4), kernel=A)])[0]
    assert [(one.kernel, one.in_turns, one.behind is None) for one in ranking.kernels] == [
        (B, True, True), (A, True, False), (C, False, True),
    ]  # fmt: skip
    assert cells(ranking)[4:] == ["4.00 [4.00, 4.00]", "numpy.loop+", "-", "not in turns", "wins", "-"]
    two = rankings([row for row in rows if row.kernel != A])[0]
    assert cells(two)[4:] == ["not in turns", "torch.vmap+", "-", "not in turns", "wins", "-"]


def test_what_never_took_turns_with_most_of_its_pass_is_no_winner():
    rows = [*apart(passes(scaled(STEADY, 0.5), kernel=C), *range(1, 9)), *passes(STEADY, kernel=B)]
    ranking = rankings([*rows, *passes(scaled(STEADY, 4), kernel=A)])[0]
    assert [one.kernel for one in ranking.kernels] == [B, A, C]


def test_a_choice_is_learnt_from_times_taken_in_turns():
    rows = [*apart(passes(scaled(STEADY, 2), kernel=A), *range(1, 6), factor=3.5), *passes(STEADY, kernel=B)]
    (entry,) = wisdom.learn([*rows, *passes(STEADY, kernel=C), *passes(STEADY, kernel="control", block=2)])
    assert [point.seconds for point in entry.curves[A]] == pytest.approx([2], rel=0.01)


def test_a_time_is_divided_by_the_control_of_its_own_process():
    both = passes(STEADY, kernel="control") + passes(scaled(STEADY, 3), kernel="control", block=2)
    before = passes(STEADY) + both
    after = apart(passes(STEADY, run="run-b"), 1, 2, 3, 4, factor=3) + [changed(row, run="run-b") for row in both]
    row = only_row(before, after)
    assert (row.normalised, row.verdict) == (True, "same")
    assert (row.low, row.high) == pytest.approx((1, 1))
    lone = [row for row in after if (row.kernel, row.block) != ("control", 2)]
    assert not only_row(before, lone).normalised
    assert only_row(before, [row for row in lone if row.block == 1]).normalised


def test_the_canary_of_a_process_is_held_against_its_control_and_a_pass_counts_once():
    def side(run):
        return [
            row
            for block, factor in ((1, 1.0), (2, 3.0))
            for kernel in ("control", "canary")
            for row in passes(scaled(STEADY, factor), kernel=kernel, block=block, run=run)
        ]

    both = aligned_tables([tabulate(side("run-a")), tabulate(side("run-b"))])
    canaries = judge_canaries(tuple(both), ("A", "B"), 0.01)
    assert [(one.change.ratio, one.change.passes, one.flagged) for one in canaries] == [(1.0, 8, False)] * 3
    assert compare([*passes(STEADY), *side("run-a")], [*passes(STEADY), *side("run-b")]).flagged == ()


# What writes them.


def said(kernel):
    measurement = Measurement(kernel, "numpy", "ok", error=0.0, tolerance=1.0, seconds_median=1.0)
    return KernelMeasured(0, measurement)


def test_each_process_has_its_yardsticks_and_each_kernel_one_row(monkeypatch):
    plan, heard, started = Plan("linear", (B, A), (10,)), [], []

    def measure(orders, variables, limits, hear):
        started.append(orders)
        for kernel in ("control", "control", "convert.torch", *((A, B)[: len(started)])):
            hear(said(kernel))
        if len(started) == 1:
            raise WorkerDied("failed", "it ended", Beat(1, 0))

    monkeypatch.setattr("gradkernels.bench.run.one_pass.measure_in_process", measure)
    hear = lambda report, block: heard.append((report.kernel, block))  # noqa: E731
    OnePass(plan, Orders(plan, 1, 0.0, 1.0, "1s"), DEFAULT_LIMITS, set(), {}, hear, 4).go()
    assert heard == [("control", 5), ("convert.torch", 5), (A, 5), ("control", 6), (B, 6)]


def test_processes_that_die_before_any_kernel_are_given_up_whatever_yardsticks_they_have_timed(monkeypatch):
    plan = Plan("linear", (B,), (10,))

    def measure(orders, variables, limits, hear):
        hear(said("control"))
        raise WorkerDied("failed", "it ended", Beat(1))

    monkeypatch.setattr("gradkernels.bench.run.one_pass.measure_in_process", measure)
    with pytest.raises(OSError, match="a measuring process could not do its work: it ended"):
        OnePass(plan, Orders(plan, 1, 0.0, 1.0, "1s"), DEFAULT_LIMITS, set(), {}, lambda *one: None).go()


def test_what_is_not_tried_again_has_a_row_of_the_first_block(monkeypatch):
    plan, heard = Plan("linear", (A, B), (10,)), []
    monkeypatch.setattr("gradkernels.bench.run.one_pass.measure_in_process", lambda *given: given[-1](said(B)))
    lost, orders = {A: Quarantine(10, "failed", "it ended")}, Orders(plan, 1, 0.0, 1.0, "1s")
    OnePass(plan, orders, DEFAULT_LIMITS, set(), lost, lambda report, block: heard.append((report.kernel, block))).go()
    assert heard == [(A, 1), (B, 1)]


def test_seventeen_of_one_computation_of_which_two_end_their_process(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", twins.install(tmp_path))
    monkeypatch.chdir(tmp_path)
    subprocess.run([sys.executable, "-m", "gradkernels", *twins.RUN], check=True, capture_output=True, timeout=120)
    rows = [row for row in read("x.csv") if row.measurement.seconds_median]
    kernels = {row.kernel: row for row in rows if not Key.parse(row.kernel).is_yardstick}
    # The first process ends in the timing of one of the two, the second at the other's turn to be proven again.
    assert {int(key[10:12]): row.block for key, row in kernels.items()} == {
        **dict.fromkeys(range(twins.ENDS_LATE), 2),
        **dict.fromkeys({*range(twins.COUNT)} - {*range(twins.ENDS_LATE), twins.ENDS_LATE, twins.ENDS}, 3),
    }
    # In the fifth it is alone, and the control has been timed when it ends it again.
    assert [row.block for row in rows if row.kernel == "control"] == [2, 3, 5]
    assert len(compare(rows, [changed(row, run="again") for row in rows]).rows) == 15
    assert all(row.normalised for row in compare(rows, [changed(row, run="again") for row in rows]).rows)
    (ranking,) = rankings(read_results([Path("x.csv")]))
    assert {one.kernel for one in ranking.kernels if one.in_turns} == {
        key for key, row in kernels.items() if row.block == 3
    }


READERS = {
    "one file": read,
    "Results": gk.Results.read,
    "by columns": lambda path: read_results([path]),
    "both sides": lambda path: gk.compare(path, path),
}


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_a_kernel_has_one_row_a_pass_and_a_yardstick_one_a_process_whoever_reads_it(tmp_path, reader):
    rows, path = [*passes(STEADY, kernel=A), *passes(STEADY, kernel="control")], tmp_path / "x.csv"
    path.write_text(HEADER)
    append(path, [*rows, *(changed(row, block=2) for row in rows if row.kernel == "control")])
    reader(path)
    append(path, [changed(rows[2], block=2)])
    with pytest.raises(Malformed, match=r"line 4, and .*line 26 both hold kernel numpy.loop\+.norms .* pass 3"):
        reader(path)
    both = [*rows, changed(rows[2], block=2)]
    with pytest.raises(ValueError, match=r"^before holds kernel numpy.loop\+.norms .* twice for run run-a, pass 3;"):
        compare(both, rows)
