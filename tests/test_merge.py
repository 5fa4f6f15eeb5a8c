"""`gradkernels merge` and `summary`: every measurement once in one file, and what its passes come to."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from measured import NOISY, STEADY, cells, changed, passes, record, refused, scaled
from scipy.stats import t

import gradkernels as gk
from gradkernels.bench.cli import main
from gradkernels.bench.results.merging import MergedRows
from gradkernels.record import HEADER, OLD_HEADERS, line, read

ROWS = [*passes(STEADY), *refused("failed", 2, kernel="torch.vmap.norms")]


def text(rows, schema=3):
    """A file with the columns of a schema."""
    header = (*OLD_HEADERS, HEADER)[schema - 1]
    width = header.count(",") + 1
    return header + "".join(line(cells(changed(row, schema=schema))[:width]) for row in rows)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working folder, in which no hidden file stays behind."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    assert not list(tmp_path.rglob(".*"))


def refusal(capsys, *words):
    assert main([*words]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.count("\n") == 1
    return told.err


def test_files_of_any_schema_become_one_of_now_with_every_row_once(here, capsys):
    other = [changed(row, run="run-b", block=2) for row in ROWS]
    Path("a.csv").write_text(text(ROWS, 1))
    Path("b.csv").write_text(text([*ROWS[:3], *other], 2))
    Path("c.csv").write_text(text(other[:1]) + text([changed(other[0], run="run-c")]))
    assert main(["merge", "a.csv", "b.csv", "c.csv", "-o", "all.csv"]) == 0
    assert capsys.readouterr().out == (
        "all.csv: 21 rows, 4 rows left out that were there already, 20 rows brought to schema 3\n"
    )
    assert Path("all.csv").read_text() == text([*ROWS, *other, changed(other[0], run="run-c")])
    assert len(read("all.csv")) == 21


def test_rows_that_contradict_each_other_are_told_and_nothing_is_written(here, capsys):
    Path("a.csv").write_text(text(ROWS))
    Path("b.csv").write_text(text([ROWS[1], changed(ROWS[2], seconds_median=2.0, iterations=7), *ROWS[3:]]))
    assert refusal(capsys, "merge", "a.csv", "b.csv", "-o", "all.csv") == (
        "gradkernels: a.csv, line 4, and b.csv, line 3 both hold kernel numpy.loop.norms of problem=linear, "
        "quantity=norms, n=100, features=1, dtype=float64, layout=C, device=cpu, threads=1 for run run-a, pass 3, but "
        "differ in iterations, seconds_median; remove one of the rows\n"
    )
    assert sorted(path.name for path in here.iterdir()) == ["a.csv", "b.csv"]


def test_rows_of_kernels_are_counted_for_each_run_and_case(here):
    other = [
        record(n=10, status="failed", run="run-b"),
        record(n=20, kernel="control", seconds_median=1.0, run="run-b"),
    ]
    rows = [*ROWS, *passes(STEADY, kernel="control"), *other]
    Path("a.csv").write_text(text([*rows, *rows[:3]]))
    seen = []
    [*MergedRows(lambda *one: seen.append(one)).lines([Path("a.csv")])]
    cases = [ROWS[0].case, other[0].case, other[1].case]
    assert seen == [("run-a", cases[0], 10), ("run-b", cases[1], 1), ("run-b", cases[2], 0)]
    assert {type(count) for *_, count in seen} == {int}


def test_good_files_are_merged_by_columns(here, monkeypatch):
    monkeypatch.setattr("gradkernels.bench.results.reader.parse", lambda *_: pytest.fail("read line by line"))
    Path("a.csv").write_text(text(ROWS))
    assert main(["merge", "a.csv", "-o", "all.csv"]) == 0
    assert Path("all.csv").read_text() == text(ROWS)


def test_a_part_without_rows_is_no_row(here, capsys, monkeypatch):
    monkeypatch.setattr("gradkernels.bench.results.parts.PART_BYTES", 1000)
    Path("a.csv").write_text(text(ROWS, 2) + "\n" * 3000 + text(ROWS[:1]))
    assert main(["merge", "a.csv", "-o", "all.csv"]) == 0
    assert capsys.readouterr().out == (
        "all.csv: 10 rows, 1 row left out that was there already, 10 rows brought to schema 3\n"
    )
    assert Path("all.csv").read_text() == text(ROWS)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["a.csv", "none.csv", "-o", "all.csv"], "none.csv: No such file or directory"),
        (["a.csv", "broken.csv", "-o", "all.csv"], "broken.csv, line 2: cut off"),
        (["a.csv", "-o", "a.csv", "--force"], "a.csv is one of the files to merge; --out must name another"),
        (["a.csv", "-o", "there.csv"], "there.csv is there already; name another file or replace it with --force"),
        (["a.csv", "-o", "."], "--out . is a folder"),
        (["a.csv"], "--out"),
    ],
)
def test_what_cannot_be_merged_is_one_sentence(here, capsys, words, says):
    Path("a.csv").write_text(text(ROWS))
    Path("there.csv").write_text("precious")
    Path("broken.csv").write_text(HEADER + "half")
    assert says in refusal(capsys, "merge", *words)
    assert Path("there.csv").read_text() == "precious"
    assert not Path("all.csv").exists()


def test_force_replaces_what_is_there(here):
    Path("a.csv").write_text(text(ROWS))
    Path("there.csv").write_text("old")
    assert main(["merge", "a.csv", "-o", "there.csv", "--force"]) == 0
    assert Path("there.csv").read_text() == text(ROWS)


@pytest.mark.parametrize("installed", [True, False])
def test_lines_are_those_that_single_records_write(here, monkeypatch, installed):
    """Of a file of schema 1, with quotes and gaps, whether or not it is read by columns."""
    if not installed:
        monkeypatch.setattr("gradkernels.bench.results.reader.arrow", lambda: None)
    old = (Path(__file__).parents[1] / "results" / "reference.csv").read_text().splitlines(keepends=True)
    Path("old.csv").write_text(
        "".join(old[:150]) + old[120].replace(",ok,,", ',ok,"1 µs, a ""quote""",', 1).replace(",1,ok", ",9,ok")
    )
    assert main(["merge", "old.csv", "-o", "all.csv"]) == 0
    wanted = [line(replace(row, schema=3).columns().values()) for row in read("old.csv")]
    assert Path("all.csv").read_text() == HEADER + "".join(wanted)


def test_a_kernel_in_two_blocks_of_a_pass_is_refused_by_all_that_look_at_times(here, capsys):
    rows = [*ROWS, changed(ROWS[0], block=2, seconds_median=9.0)]
    Path("a.csv").write_text(text(rows))
    Path("b.csv").write_text(text([changed(row, run="run-b") for row in ROWS]))
    for words in (["compare", "a.csv", "b.csv"], ["fastest", "a.csv"], ["summary", "a.csv"], ["report", "a.csv"]):
        assert "a.csv, line 2, and a.csv, line 12 both hold kernel numpy.loop.norms" in refusal(capsys, *words)
    assert "both hold" in refusal(capsys, "plot", "a.csv", "-o", "a.png")
    assert "but differ in seconds_median, block" in refusal(capsys, "merge", "a.csv", "-o", "all.csv")
    with pytest.raises(ValueError, match=r"^records\[0\], and records\[10\] both hold kernel numpy.loop.norms"):
        gk.Results(tuple(rows))


# The summary.


def summary(capsys, *words):
    assert main(["summary", *words]) == 0
    return capsys.readouterr().out


def test_one_row_for_each_case_and_kernel_with_its_interval(here, capsys):
    rows = [
        *passes(STEADY, limit_seconds=0.5, seconds_first=3.0),
        *passes(NOISY, kernel="numpy.loop.norms@out"),
        *passes(STEADY, kernel="canary"),
        *refused("failed", 2, kernel="torch.vmap.norms"),
        record(kernel="numpy.matmul.norms", seconds_median=0.25, n=10),
    ]
    Path("x.csv").write_text(text(rows))
    found = list(csv.DictReader(summary(capsys, "x.csv", "--format", "csv").splitlines()))
    assert [(row["n"], row["kernel"], row["role"], row["way"], row["out"]) for row in found] == [
        ("10", "numpy.matmul.norms", "kernel", "numpy.matmul", "False"),
        ("100", "numpy.loop.norms", "kernel", "numpy.loop", "False"),
        ("100", "numpy.loop.norms@out", "kernel", "numpy.loop", "True"),
        ("100", "torch.vmap.norms", "kernel", "torch.vmap", "False"),
        ("100", "canary", "canary", "canary", "False"),
    ]
    steady = found[1]
    assert (steady["passes"], steady["status"], steady["reason"], steady["seconds_first"]) == ("8", "ok", "", "3.0")
    # Yuen's trimmed mean of the logs: one of eight is cut on each side, the rest is winsorised.
    logs = np.sort(np.log(STEADY))
    kept, winsorised = logs[1:-1], logs.clip(logs[1], logs[-2])
    error = math.sqrt(((winsorised - winsorised.mean()) ** 2).sum() / (6 * 5))
    ends = [math.exp(kept.mean() + sign * t.ppf(0.975, 5) * error) for sign in (-1, 1)]
    assert float(steady["seconds"]) == 1.0
    assert [float(steady["low"]), float(steady["high"])] == pytest.approx(ends, rel=1e-9)
    assert float(steady["of_limit"]) == pytest.approx(0.5, rel=1e-3)
    single, failed = found[0], found[3]
    assert (single["seconds"], single["low"], single["high"]) == ("0.25", "", "")
    assert (failed["passes"], failed["status"], failed["seconds"], failed["reason"]) == (
        "2",
        "failed",
        "",
        "it is failed",
    )


def test_the_tables_leave_the_yardsticks_out(here, capsys):
    Path("x.csv").write_text(text([*passes(scaled(STEADY, 1e-6)), *passes(STEADY, kernel="control")]))
    table, markdown = (summary(capsys, "x.csv", "--format", kind) for kind in ("table", "markdown"))
    for shown in (table, markdown):
        assert "norms of linear, 1 feature, float64, 1 thread" in shown
        assert "numpy.loop" in shown
        assert "1.000 µs" in shown
        assert "control" not in shown
    assert len(json.loads(summary(capsys, "x.csv", "--format", "json"))) == 2


def test_kernels_and_quantities_are_chosen(here, capsys):
    rows = [*passes(STEADY), *passes(STEADY, kernel="numpy.matmul.gradient", quantity="gradient")]
    Path("x.csv").write_text(text(rows))
    for words in (["--kernel", "numpy.loop"], ["--quantity", "norms"]):
        found = json.loads(summary(capsys, "x.csv", "--format=json", *words))
        assert [row["kernel"] for row in found] == ["numpy.loop.norms"]
    assert "there is no quantity 'norm'; did you mean norms?" in refusal(capsys, "summary", "x.csv", "--quantity=norm")


def test_times_taken_apart_from_the_others_do_not_count(here, capsys):
    other = passes(STEADY, kernel="numpy.matmul.norms")
    rows = [*passes(STEADY[:7]), changed(record(pass_=8, seconds_median=9.0), block=2), *other]
    Path("x.csv").write_text(text(rows))
    found = json.loads(summary(capsys, "x.csv", "--format=json", "--kernel", "numpy.loop"))
    assert found[0]["passes"] == 8
    assert found[0]["high"] < 1.01
