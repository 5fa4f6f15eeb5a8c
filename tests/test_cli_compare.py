"""The command `compare`: what it prints and which exit code it ends with."""

import csv
import io
import json
import re

import pytest
import typer
from measured import KERNEL, NOISY, STEADY, changed, passes, refused, scaled

from gradkernels.bench.cli.commands.compare import compare
from gradkernels.bench.compare.thresholds import fraction
from gradkernels.record import HEADER, append

WAY = KERNEL.removesuffix(".norms")

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
app.command()(compare)


@pytest.fixture
def written(tmp_path, monkeypatch):
    """A function that writes rows to a file in the working folder and returns its name."""
    monkeypatch.chdir(tmp_path)

    def write(name, records):
        (tmp_path / name).write_text(HEADER)
        append(tmp_path / name, records)
        return name

    return write


@pytest.fixture
def slower(written):
    """Two files, the second 10% slower at n = 100 and no different at n = 10."""
    controls = passes(STEADY, kernel="control") + passes(STEADY, kernel="control", n=10)
    before = passes(scaled(STEADY, 2e-5)) + passes(scaled(STEADY, 3e-6), n=10) + controls
    after = passes(scaled(STEADY, 2.2e-5)) + passes(scaled(STEADY, 3e-6), n=10) + controls
    later = {"run": "run-b", "started": "2026-03-02T12:00:00+00:00", "commit": "fedcba987654"}
    return written("A.csv", before), written("B.csv", [changed(row, **later) for row in after])


def run(*arguments):
    return app(list(arguments), standalone_mode=False)


def test_table(slower, capsys):
    assert run(*slower) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed == [line.rstrip() for line in printed]
    lines = [line.split() for line in printed]
    assert ["kernel", "n", "before", "after", "[99.6%", "interval]", "verdict", "detects"] in lines
    assert ["ratio", "(of", "control)"] in lines
    (ten,) = (line for line in lines if line[:2] == [WAY, "10"])
    (hundred,) = (line for line in lines if line[:2] == [WAY, "100"])
    assert ten[2:7] == ["3.000", "µs", "3.000", "µs", "1.000"]
    assert ten[-1] == "same"
    assert hundred[2:7] == ["20.00", "µs", "22.00", "µs", "1.100"]
    assert hundred[-1] == "slower"


def test_summary(slower, capsys):
    run(*slower)
    printed = capsys.readouterr().out
    assert "before: A.csv, 8 passes in 1 run from 2026-03-01T12:00:00+00:00, commit 0123456789ab\n" in printed
    assert "after: B.csv, 8 passes in 1 run from 2026-03-02T12:00:00+00:00, commit fedcba987654\n" in printed
    assert "2 of 2 ratios are of times divided by the control kernel of their own pass\n" in printed
    assert "measured at different times: a slowdown is found with 95% probability from " in printed
    again = "gradkernels ab 0123456789ab fedcba987654 --kernel numpy.loop --quantity norms --sizes 100"
    assert f"side by side: {again}\n" in printed
    assert "neither side has 6 passes of a canary, which is identical code timed twice, so nothing" in printed
    assert "1 of 1 change holds for all 2 rows at once (Holm)\n" in printed
    assert "geometric mean of after / before: 1.049 [" in printed
    assert printed.endswith(
        "1 slower, 0 faster, 1 same, 0 undecided (a change counts beyond 1.0%; same: surely none)\n"
    )


@pytest.mark.parametrize(("factor", "holds"), [(1.015, "0 of 1 change hold"), (1.1, "1 of 1 change holds")])
def test_a_change_may_not_hold_among_many_rows(written, capsys, factor, holds):
    others = [row for i in range(9) for row in passes(STEADY, kernel=f"numpy.k{i}.norms")]
    files = written("A.csv", others + passes(STEADY)), written("B.csv", others + passes(scaled(STEADY, factor)))
    run(*files)
    printed = capsys.readouterr().out
    assert f"{holds} for all 10 rows at once (Holm)\n" in printed
    assert "1 slower, 0 faster, 9 same, 0 undecided" in printed


def test_a_file_against_itself_is_not_called_measured_at_different_times(slower, capsys):
    assert run(slower[0], slower[0], "--fail-slower", "0%") == 0
    assert "different times" not in capsys.readouterr().out


def test_undecided_says_what_could_be_found_and_how_many_passes_it_takes(written, capsys):
    files = written("A.csv", passes(NOISY)), written("B.csv", passes(scaled(NOISY, 1.1), run="run-b"))
    assert run(*files, "--wide") == 0
    row = next(line.split() for line in capsys.readouterr().out.splitlines() if line.startswith(WAY))
    assert row[-3] == "undecided"
    assert row[-2].endswith("%")
    assert row[-1].isdecimal()


def test_columns_that_are_left_out_are_not_explained(written, capsys, monkeypatch):
    files = written("A.csv", passes(NOISY)), written("B.csv", passes(scaled(NOISY, 1.05), run="run-b"))
    monkeypatch.setenv("COLUMNS", "70")
    run(*files)
    narrow = capsys.readouterr().out
    assert "with --wide also: detects, needs\n" in narrow
    assert "detects: " not in narrow
    run(*files, "--wide")
    assert "detects: the smallest slowdown" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ([], 0),
        (["--fail-slower", "5%"], 1),
        (["--fail-slower", "0.05"], 1),
        (["--fail-slower", "10%"], 0),
        (["--fail-slower", "5%", "--delta", "20%"], 0),
        (["--fail-slower", "5%", "--kernel", "numpy.*"], 1),
        (["--fail-slower", "5%", "--quantity", "norms", "--format", "csv"], 1),
        (["--fail-slower", "5%", "--fail-undecided"], 1),
        (["--fail-undecided"], 0),
        (["--fail-undecided", "--delta", "10%"], 3),
        (["--fail-undecided", "--delta", "20%"], 0),
        (["--fail-undecided", "--fail-slower", "10%"], 3),
        (["--fail-undecided", "--fail-slower", "20%"], 0),
        (["--fail-missing"], 0),
        (["--fail-missing", "--fail-slower", "5%"], 1),
    ],
)
def test_exit_code(slower, options, code):
    assert run(*slower, *options) == code


@pytest.mark.parametrize(("status", "code"), [("wrong", 4), ("failed", 4), ("unsupported", 5), ("timeout", 5)])
def test_a_failed_proof_sets_the_exit_code_whatever_the_speed(written, capsys, status, code):
    files = written("A.csv", passes(STEADY)), written("B.csv", refused(status, run="run-b"))
    assert run(*files) == code
    assert f"{KERNEL} at n = 100 was ok, is {status}: it is {status}\n" in capsys.readouterr().out


def test_a_kernel_that_is_gone_fails_if_asked(written, capsys):
    both, gone = passes(STEADY), passes(STEADY, kernel="numpy.gone.norms")
    files = written("A.csv", both + gone), written("B.csv", [changed(row, run="run-b") for row in both])
    assert [run(*files), run(*files, "--fail-missing"), run(*files[::-1], "--fail-missing")] == [0, 6, 0]
    assert "not in B.csv: numpy.gone.norms at n = 100\n" in capsys.readouterr().out


def test_a_kernel_that_no_longer_ends_in_time_fails_as_slower(written, capsys):
    files = written("A.csv", passes(STEADY)), written("B.csv", refused("timeout", run="run-b"))
    assert run(*files, "--fail-slower", "50%") == 1
    assert "TOO SLOW: " in capsys.readouterr().out


def test_csv_has_standard_output_to_itself(slower, capsys):
    run(*slower, "--format", "csv")
    streams = capsys.readouterr()
    small, large = csv.DictReader(io.StringIO(streams.out))
    assert (small["n"], small["verdict"], large["n"], large["verdict"]) == ("10", "same", "100", "slower")
    assert float(large["ratio"]) == pytest.approx(1.1)
    assert (large["machine"], large["normalised"], large["passes_needed"]) == ("desk", "True", "")
    assert "geometric mean" in streams.err


def test_json_has_standard_output_to_itself(slower, capsys):
    run(*slower, "--format", "json")
    whole = json.loads(capsys.readouterr().out)
    assert whole["counts"] == {"slower": 1, "faster": 0, "same": 1, "undecided": 0}
    assert (whole["contaminated"], whole["delta"], whole["rows"][1]["fail_slower"]) == (False, 0.01, None)
    assert whole["geometric_mean"]["ratio"] == pytest.approx(1.1**0.5)
    assert [row["verdict"] for row in whole["rows"]] == ["same", "slower"]


def test_what_is_not_known_is_null_or_empty(written, capsys):
    files = written("A.csv", passes([1.0])), written("B.csv", passes([2.0], run="run-b"))
    run(*files, "--format", "json")
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert (row["ratio"], row["high"], row["smallest_effect"]) == (pytest.approx(2.0), None, None)
    run(*files, "--format", "csv")
    (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert (row["high"], row["smallest_effect"]) == ("", "")


def test_markdown(slower, capsys):
    run(*slower, "--format", "markdown")
    lines = capsys.readouterr().out.splitlines()
    assert (
        lines[0] == "| kernel | n | before | after | ratio (of control) [99.6% interval] | verdict | detects | needs |"
    )
    assert lines[1] == "| --- | --: | --: | --: | --: | --: | --: | --: |"
    assert lines[2].startswith(f"| {KERNEL} | 10 | 3.000 µs | 3.000 µs | 1.000 [")
    assert lines[-1] == "- 1 slower, 0 faster, 1 same, 0 undecided (a change counts beyond 1.0%; same: surely none)"


def test_few_passes_detect_nothing(written, capsys):
    files = written("A.csv", passes(STEADY[:5])), written("B.csv", passes(STEADY[:5], run="run-b"))
    run(*files, "--wide")
    printed = capsys.readouterr().out
    assert next(line.split() for line in printed.splitlines() if line.startswith(WAY))[-3:] == [
        "undecided",
        "nothing",
        "6",
    ]
    assert "1 of 1 row has fewer than 6 passes on a side and stays undecided\n" in printed
    assert (
        "measured at different times: with so few passes no slowdown would be found, however large; to find one, "
        in printed
    )


def test_settings_in_brackets_are_printed(written, capsys):
    records = passes(STEADY, kernel="torch.vmap[chunk=5].norms")
    run(written("A.csv", records), "A.csv")
    assert "torch.vmap[chunk=5] " in capsys.readouterr().out


def test_coordinates_are_printed_where_they_tell_rows_apart(written, capsys):
    both = passes(STEADY) + passes(STEADY, dtype="float32")
    run(written("A.csv", both), written("B.csv", both + passes(STEADY, dtype="float32", n=7)))
    printed = capsys.readouterr().out
    titles = [line for line in printed.splitlines() if line.startswith("norms of")]
    assert titles == [f"norms of linear, 1 feature, {dtype}, 1 thread" for dtype in ("float32", "float64")]
    assert f"not in A.csv: {KERNEL} (dtype float32) at n = 7\n" in printed


def test_force_is_stamped(written, capsys):
    files = written("A.csv", passes(STEADY)), written("B.csv", passes(STEADY, machine="lap", run="run-b"))
    with pytest.raises(ValueError, match=r"A.csv and B.csv differ in machine \(desk against lap\)"):
        run(*files)
    assert run(*files, "--force") == 0
    assert "FORCED: the sides differ in machine," in capsys.readouterr().out
    run(*files, "--force", "--format", "csv")
    (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert row["forced"] == "machine"


def in_halves(written, letter, records):
    return [written(f"{letter}{i}.csv", [row for row in records if (row.pass_ <= 4) == (i == 1)]) for i in (1, 2)]


def test_several_files_a_side_are_pooled_as_passes(written, capsys):
    before = in_halves(written, "A", passes(STEADY))
    after = in_halves(written, "B", passes(scaled(STEADY, 1.1), run="run-b"))
    assert run(*before, "vs", *after, "--fail-slower", "5%") == 1
    printed = capsys.readouterr().out
    assert "before: A1.csv + A2.csv, 8 passes in 1 run" in printed
    assert "1 slower, 0 faster, 0 same, 0 undecided" in printed
    assert run(before[0], "vs", *after) == run(before[0], after[0]) == 0


def test_a_file_given_twice_on_one_side_is_refused(written):
    one = written("A.csv", passes(STEADY))
    with pytest.raises(ValueError, match=r"A\.csv is given twice; its rows count once"):
        run(one, one, "vs", one)


@pytest.mark.parametrize("words", ["A.csv", "A.csv A.csv A.csv", "vs A.csv", "A.csv vs", "A.csv vs A.csv vs A.csv"])
def test_sides_that_cannot_be_told_apart_are_refused(written, words):
    written("A.csv", passes(STEADY))
    with pytest.raises(ValueError, match=f"compare {words}: name two results files, or several with the word vs"):
        run(*words.split())


def test_a_contaminated_comparison_has_no_verdicts(written, capsys):
    canary = passes(STEADY, kernel="control") + passes(scaled(STEADY, 1.05), kernel="canary")
    files = written("A.csv", passes(STEADY) + canary), written("B.csv", passes(scaled(STEADY, 1.1), run="run-b"))
    assert run(*files, "--fail-slower", "5%", "--fail-undecided") == 5
    printed = capsys.readouterr().out
    row = next(line.split() for line in printed.splitlines() if line.startswith(WAY))
    assert row[-1] == "contaminated"
    assert "CONTAMINATED: identical code differs, 1.050 [1.050, 1.050] A.csv at problem=linear" in printed
    assert not [word for word in ("geometric mean", " slower, ", "Holm") if word in printed]


def test_a_quiet_canary_is_told(written, capsys):
    canary = passes(STEADY, kernel="control") + passes(scaled(STEADY, 1.002), kernel="canary")
    run(written("A.csv", passes(STEADY) + canary), written("B.csv", passes(STEADY, run="run-b")))
    assert (
        "canary: no sure difference between identical code in 1 check, the largest is 1.002 ["
        in capsys.readouterr().out
    )


def test_nothing_measured_in_common_is_told_and_has_its_exit_code(written, capsys):
    files = written("A.csv", passes(STEADY)), written("B.csv", passes(STEADY, n=7))
    assert run(*files) == 5
    printed = capsys.readouterr().out
    assert (
        "NOTHING MEASURED IN COMMON: no row of one file has a counterpart in the other: they differ in n (" in printed
    )
    assert run(files[0], written("empty.csv", [])) == 5
    assert "NOTHING MEASURED IN COMMON: empty.csv has no row of a kernel" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("toml", "options", "code"),
    [
        ("", [], 0),
        ('fail-slower = "5%"', [], 1),
        ('fail-slower = "5%"', ["--fail-slower", "20%"], 0),
        ('fail-slower = "20%"', ["--fail-slower", "5%"], 1),
        ('overrides = [{ n = 100, fail-slower = "5%" }]', [], 1),
        ('overrides = [{ n = 10, fail-slower = "5%" }]', [], 0),
        ('fail-slower = 0.05\noverrides = [{ kernel = "numpy.loop", fail-slower = 0.2 }]', [], 0),
        ('delta = "10%"', ["--fail-undecided"], 3),
        ('delta = "20%"', ["--fail-undecided"], 0),
    ],
)
@pytest.mark.parametrize("place", ["pyproject.toml", "file.toml"])
def test_thresholds_of_a_file_decide(slower, tmp_path, toml, options, code, place):
    section = "" if place == "file.toml" else "[tool.gradkernels.compare]\n"
    (tmp_path / place).write_text(section + toml)
    named = ["--thresholds", place] if place == "file.toml" else []
    assert run(*slower, *named, *options) == code


def test_what_is_too_slow_is_told_with_its_limit(slower, capsys):
    run(*slower, "--fail-slower", "5%")
    printed = capsys.readouterr().out
    assert f"TOO SLOW: {KERNEL} at n = 100 is slower by more than 5.0%: 1.100\n" in printed
    says = "1 of 2 rows is slower by more than their limit, for all of them at once (Holm); 1 surely not, 0 undecided"
    assert f"{says}\n" in printed
    assert "LIMIT UNDECIDED" not in printed


def test_what_may_be_too_slow_or_not_is_told_with_its_limit(slower, capsys):
    run(*slower, "--fail-slower", "10%")
    printed = capsys.readouterr().out
    says = f"LIMIT UNDECIDED: {KERNEL} at n = 100 may be slower by more than 10% or not: 1.100 [1.100, 1.100]"
    assert f"{says}\n" in printed
    says = "0 of 2 rows are slower by more than their limit, for all of them at once (Holm); 1 surely not, 1 undecided"
    assert f"{says}\n" in printed


@pytest.mark.parametrize(
    ("commits", "says"),
    [
        (("aaa", "bbb+"), "gradkernels ab aaa . --kernel"),
        (("aaa", "aaa+"), "gradkernels ab aaa . --kernel"),
        (("aaa", "aaa"), "both are of commit aaa, so only more passes can tell more"),
        (("aaa+", "bbb"), "no command can do so here, because A.csv was measured with uncommitted changes"),
        (("", "bbb"), "no command can do so here, because the rows of A.csv do not name one commit"),
    ],
)
def test_the_command_that_measures_again_is_of_the_commits(written, capsys, commits, says):
    sides = passes(STEADY, commit=commits[0]), passes(STEADY, commit=commits[1], run="run-b")
    run(written("A.csv", sides[0]), written("B.csv", sides[1]))
    assert f"side by side: {says}" in capsys.readouterr().out


def test_the_command_that_measures_again_is_of_the_case_and_of_what_is_not_the_same(written, capsys):
    case = {"problem": "logistic(fit_intercept=False)", "features": 3, "dtype": "float32", "threads": 2}
    kernels = [f"torch.vmap+[chunk={i}].norms" for i in range(2)]
    before = [row for kernel in kernels for row in passes(STEADY, kernel=kernel, commit="aaa", **case)]
    after = [
        changed(
            row,
            run="run-b",
            commit="bbb",
            seconds_median=row.measurement.seconds_median * (1.3 if "1" in row.kernel else 1),
        )
        for row in before
    ]
    run(written("A.csv", before), written("B.csv", after))
    asked = "--problem logistic --no-intercept --quantity norms --sizes 100 --features 3 --dtype float32 --threads 2"
    assert f"gradkernels ab aaa bbb --kernel 'torch.vmap+[chunk=1]' {asked}\n" in capsys.readouterr().out


def again(written, capsys, *options, **case):
    """What is advised for one row of a case, and two commits."""
    files = [written(name, passes(STEADY, commit=name[0], run=name, **case)) for name in ("a.csv", "b.csv")]
    run(*files, *options)
    found = re.findall(r"side by side: (.*)\n", capsys.readouterr().out)
    assert len(found) == 1
    return found[0]


SETTINGS = [
    ({}, (), "--kernel numpy.loop --quantity norms --sizes 100"),
    ({}, ("--delta", "2%"), "--kernel numpy.loop --quantity norms --sizes 100 --delta 2%"),
    ({"problem": "poisson"}, (), "--kernel numpy.loop --problem poisson --quantity norms --sizes 100"),
    (
        {"layout": "F", "device": "cuda", "dtype": "float32", "features": 30, "threads": 2},
        (),
        "--kernel numpy.loop --quantity norms --sizes 100 "
        "--features 30 --dtype float32 --layout F --device cuda --threads 2",
    ),
    (
        {"problem": "linear(fit_intercept=False)/diabetes", "features": 10, "n": 442},
        (),
        "--kernel numpy.loop --no-intercept --quantity norms --sizes 442 --features 10, "
        "which draws its data instead of reading diabetes",
    ),
    (
        {"problem": "huber(fit_intercept=False,delta=2.0)"},
        (),
        "--kernel numpy.loop --problem 'huber(fit_intercept=False,delta=2.0)' --quantity norms --sizes 100",
    ),
    (
        {"problem": "mine"},
        (),
        "--kernel numpy.loop --problem MODULE:FACTORY --quantity norms --sizes 100, "
        "MODULE:FACTORY being a function that returns mine",
    ),
]


@pytest.mark.parametrize(("case", "options", "says"), SETTINGS)
def test_the_command_that_measures_again_has_every_option_of_the_case(written, capsys, case, options, says):
    assert again(written, capsys, *options, **case) == f"gradkernels ab a b {says}"


def test_each_setting_has_a_command_of_its_own(written, capsys):
    cases = [(1, "float32", 10), (1, "float32", 1000), (3, "float64", 100), (5, "float64", 7)]
    files = [
        written(
            f"{commit}.csv",
            [
                row
                for features, dtype, n in cases
                for row in passes(STEADY, commit=commit, run=commit, features=features, dtype=dtype, n=n)
            ],
        )
        for commit in "ab"
    ]
    run(*files)
    assert re.findall(r"side by side: (.*)\n", capsys.readouterr().out) == [
        "gradkernels ab a b --kernel numpy.loop --quantity norms --sizes 10,1000 --dtype float32",
        "gradkernels ab a b --kernel numpy.loop --quantity norms --sizes 100 --features 3",
        "gradkernels ab a b --kernel numpy.loop --quantity norms --sizes 7 --features 5",
    ]


def test_many_settings_are_counted(written, capsys):
    files = [
        written(f"{one}.csv", [row for d in range(1, 7) for row in passes(STEADY, commit=one, run=one, features=d)])
        for one in "ab"
    ]
    run(*files)
    found = re.findall(r"side by side: (.*)\n", capsys.readouterr().out)
    assert len(found) == 5
    assert found[-1] == ("likewise for the other 2 combinations of problem, features, dtype, layout, device, threads")


def test_every_kernel_in_question_is_named(written, capsys):
    kernels = [f"numpy.k{i}.norms" for i in range(9)]
    files = [
        written(f"{one}.csv", [row for name in kernels for row in passes(STEADY, commit=one, run=one, kernel=name)])
        for one in "ab"
    ]
    run(*files)
    ways = " ".join(f"--kernel numpy.k{i}" for i in range(9))
    assert f"side by side: gradkernels ab a b {ways} --quantity norms --sizes 100\n" in capsys.readouterr().out


def test_conversions_alone_cannot_be_measured_again(written, capsys):
    says = again(written, capsys, kernel="convert.torch")
    assert says == "no command can do so here, because conversions between libraries are no kernels"


def test_many_absent_kernels_are_counted(written, capsys):
    many = [row for i in range(12) for row in passes(STEADY, kernel=f"numpy.k{i:02}.norms")]
    run(written("A.csv", passes(STEADY) + many), written("B.csv", passes(STEADY, run="run-b")))
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("not in B.csv")]
    assert len(lines) == 9
    assert lines[-1] == "not in B.csv: 4 kernels more"


def test_an_unknown_kernel_or_quantity_is_refused(slower):
    with pytest.raises(ValueError, match=r"no kernel 'numpi\.loop'; did you mean"):
        run(*slower, "--kernel", "numpi.loop")
    with pytest.raises(ValueError, match="no quantity 'moment'"):
        run(*slower, "--quantity", "moment")


@pytest.mark.parametrize(
    ("text", "value"), [("5%", 0.05), (" 12.5 % ", 0.125), ("0.05", 0.05), ("0", 0), ("250%", 2.5)]
)
def test_fraction(text, value):
    assert fraction(text, "--delta") == pytest.approx(value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("5", "--delta 5 could mean 5% or 5 times; write 5% or a fraction below 1"),
        ("1", "--delta 1 could mean"),
        ("-1%", "--delta is '-1%'; write a percentage"),
        ("five", "--delta is 'five'"),
        ("nan", "--delta is 'nan'"),
        ("inf%", "--delta is 'inf%'"),
        ("", "--delta is ''"),
        ("5%%", "--delta is '5%%'"),
        ("1_0%", "--delta is '1_0%'"),
        ("1e999%", "--delta is '1e999%'"),
    ],
)
def test_an_ambiguous_or_senseless_fraction_is_refused(text, sentence):
    with pytest.raises(ValueError, match=sentence):
        fraction(text, "--delta")
