"""Files that hold the same passes: times are never compared with themselves, nor counted twice, without a word."""

import json
import re
from pathlib import Path

import pytest
from measured import NOISY, STEADY, changed, passes, scaled

import gradkernels as gk
from gradkernels.bench.cli import main
from gradkernels.bench.compare.compare import compare
from gradkernels.record import HEADER, append

BEFORE = passes(scaled(STEADY, 2e-5), run="run-a") + passes(scaled(STEADY, 1e-6), run="run-a", kernel="control")
AFTER = passes(scaled(STEADY, 2.2e-5), run="run-b") + passes(scaled(STEADY, 1e-6), run="run-b", kernel="control")
REFUSED = (
    "8 passes of kernel numpy.loop.norms of problem=linear, quantity=norms, n=100, features=1, dtype=float64, "
    "layout=C, device=cpu, threads=1 (run run-b), which would be compared with themselves beside others; compare files "
    "that have no pass in common"
)


@pytest.fixture
def merged(tmp_path, monkeypatch):
    """Two files, and `all.csv`, which was merged from both."""
    monkeypatch.chdir(tmp_path)
    for name, records in (("a.csv", BEFORE), ("b.csv", AFTER)):
        Path(name).write_text(HEADER)
        append(Path(name), records)
    assert main(["merge", "a.csv", "b.csv", "-o", "all.csv"]) == 0


@pytest.mark.parametrize("files", [("all.csv", "b.csv"), ("b.csv", "all.csv"), ("all.csv", "vs", "b.csv")])
def test_a_merged_file_is_not_compared_with_a_part_of_it(merged, capsys, files):
    capsys.readouterr()
    assert main(["compare", *files, "--fail-slower", "5%"]) == 2
    out, err = capsys.readouterr()
    named = [file for file in files if file != "vs"]
    assert (out, err) == ("", f"gradkernels: {named[0]} and {named[1]} both hold {REFUSED}\n")


def test_python_refuses_it_too(merged):
    with pytest.raises(ValueError, match=re.escape(f"before and after both hold {REFUSED}")):
        gk.compare("all.csv", gk.Results.read("b.csv"))


def test_a_file_against_itself_is_said_to_be(merged, capsys):
    assert main(["compare", "a.csv", "a.csv"]) == 0
    told = "THE SAME MEASUREMENTS: 1 row has every time on both sides, so a ratio of 1 says nothing of the code"
    assert told in capsys.readouterr().out.splitlines()
    assert told in str(gk.compare("a.csv", "a.csv"))
    assert main(["compare", "a.csv", "a.csv", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["with_itself"] == 1
    assert main(["compare", "a.csv", "b.csv"]) == 0
    assert "SAME MEASUREMENTS" not in capsys.readouterr().out


def test_each_kernel_is_looked_at_by_itself():
    """What a second run added is compared with nothing, what it measured again with what was there before."""
    other = passes(NOISY, run="run-a", kernel="numpy.other.norms")
    found = compare(BEFORE + other, [*AFTER, *other, *passes(STEADY, run="run-b", n=7)])
    assert [(row.case.n, row.kernel, row.verdict) for row in found.rows] == [
        (7, "numpy.loop.norms", ""),
        (100, "numpy.loop.norms", "slower"),
        (100, "numpy.other.norms", "undecided"),
    ]
    assert found.with_itself == 1


def test_the_same_pass_of_other_machines_cases_and_times_is_another():
    for change in ({"machine": "lap"}, {"n": 7}, {"kernel": "numpy.other.norms"}, {"run": "run-c"}):
        more = [changed(row, **change) for row in BEFORE if row.kernel != "control"]
        assert compare(BEFORE, AFTER + more).with_itself == 0
    timed_again = [changed(row, seconds_median=1.5 * row.measurement.seconds_median) for row in BEFORE]
    assert compare(BEFORE, timed_again).with_itself == 0


def test_yardsticks_alone_are_no_kernel_in_common():
    """A run whose kernels are in two files has its control in both."""
    controls = [row for row in AFTER if row.kernel == "control"]
    others = [changed(row, kernel="numpy.other.norms") for row in AFTER if row.kernel != "control"]
    assert compare(BEFORE + others + controls, AFTER).with_itself == 0


@pytest.mark.parametrize("command", ["fastest", "summary"])
def test_a_pass_counts_once_however_many_files_hold_it(merged, capsys, command):
    for files, says in (
        (["a.csv", "a.csv"], "a.csv is given twice; its rows count once, so name it once"),
        (["a.csv", "./a.csv"], "a.csv is given twice"),
        (["all.csv", "b.csv"], "all.csv, line 18, and b.csv, line 2 both hold kernel numpy.loop.norms of"),
    ):
        capsys.readouterr()
        assert main([command, *files]) == 2
        assert capsys.readouterr().err.startswith(f"gradkernels: {says}")


def test_results_of_a_file_that_is_given_twice(merged):
    with pytest.raises(ValueError, match=r"^b.csv is given twice; its rows count once, so name it once$"):
        gk.Results.read("b.csv", "a.csv", "./b.csv")
    with pytest.raises(ValueError, match=r"^all.csv, and b.csv both hold kernel numpy.loop.norms of"):
        gk.Results.read("all.csv", "b.csv")
