"""The gate of a pytest session: what it compares, how it repeats a session, and the exit status that it leaves."""

from pathlib import Path

import pytest
from measured import STEADY, changed, passes, scaled
from test_pytest_plugin import DOUBLED, GOOD, HEAD, QUICK

from gradkernels import record
from gradkernels.bench.pytest_plugin.controls import Yardsticks
from gradkernels.coordinates import Coordinates
from gradkernels.dispatch.machine import machine
from gradkernels.key import CONTROLS

pytest_plugins = ["pytester"]

CASE = {
    "machine": machine(),
    "kernel": "numpy.broadcast.per_sample",
    "quantity": "per_sample",
    "n": 50,
    "features": 3,
    "parameters": 4,
    "run": "base",
}
# Whatever a machine needs for this case, it lies between these.
LONG, SHORT = scaled(STEADY, 100.0), scaled(STEADY, 1e-12)
PASSES = "--gradkernels-passes=6"


@pytest.fixture
def base(pytester):
    """`base(times)` writes base.csv with such passes of the suite's kernel."""

    def write(times, **changes):
        path = pytester.path / "base.csv"
        path.write_text(record.HEADER)
        record.append(path, passes(times, **{**CASE, **changes}))

    return write


@pytest.fixture
def session(pytester, monkeypatch):
    """`session(suite, *options)` compares a suite with base.csv; gives pytest's result."""
    monkeypatch.setattr("pytest_benchmark.plugin.get_cpu_info", lambda: {"count": 4})  # takes a second

    def run(suite, *options, compared="--gradkernels-compare=base.csv"):
        pytester.makepyfile(HEAD + suite)
        return pytester.runpytest(*QUICK, compared, *options)

    return run


def write_first_pass_again(config, path):
    """Write the first pass of a session, as if a fresh process had found the same.

    Only the canary is as fast as the control in it: what the noise of one pass, copied, would make of it is
    `contaminated` every now and then.
    """
    from gradkernels.bench.pytest_plugin import _ROWS

    rows = [row for row in config.stash[_ROWS].records if row.pass_ == 1]
    control = {row.case: row.measurement.seconds_median for row in rows if row.kernel == "control"}
    path.write_text(record.HEADER)
    for row in rows:
        quiet = {"seconds_median": control[row.case]} if row.kernel == "canary" else {}
        record.append(path, [changed(row, **quiet)])
    return 0, ""


@pytest.fixture
def six_passes(monkeypatch):
    """Passes beyond the first are copies of the first."""
    repeated = []

    def run(config, path):
        repeated.append(path)
        return write_first_pass_again(config, path)

    monkeypatch.setattr("gradkernels.bench.pytest_plugin.passes._run", run)
    yield
    assert len(repeated) == 5


@pytest.mark.parametrize(
    ("times", "options", "code", "means"),
    [
        (LONG, ["--gradkernels-fail-slower=5%"], 0, "code 0, nothing fails"),
        (SHORT, [], 0, "code 0, nothing fails"),
        (SHORT, ["--gradkernels-fail-slower=5%"], 1, "code 1, too slow"),
        (SHORT[:5], ["--gradkernels-fail-undecided"], 3, "code 3, undecided"),
        (LONG, ["--gradkernels-fail-missing"], 0, "code 0, nothing fails"),
    ],
)
def test_the_exit_status_is_that_of_compare(base, session, six_passes, times, options, code, means):
    base(times)
    result = session(GOOD, PASSES, *options)
    result.assert_outcomes(passed=1)
    assert result.ret == code
    result.stdout.fnmatch_lines([f"gradkernels: {means}; exit status {code}"])


def test_a_kernel_of_the_base_that_the_session_lacks_fails_if_asked(base, session, six_passes):
    base(LONG, kernel="numpy.gone.per_sample")
    result = session(GOOD, PASSES, "--gradkernels-fail-missing")
    assert result.ret == 6
    result.stdout.fnmatch_lines(
        ["not in this session: numpy.gone.per_sample at n = 50",
         "gradkernels: code 6, a kernel and case of the base is missing; exit status 6"]
    )  # fmt: skip


def test_the_table_and_the_summary_are_those_of_compare(base, session, six_passes):
    base(SHORT)
    result = session(GOOD, PASSES, "--gradkernels-fail-slower=5%")
    result.stdout.fnmatch_lines(
        [
            "gradkernels: pass 6 of 6, in a fresh process",
            "per_sample of linear, 3 features, float64, 1 thread",
            "kernel * n * before * after * [[]99.6% interval[]]  verdict*",
            "numpy.broadcast * 50 * slower*",
            "after: this session, 6 passes in 1 run from *",
            "TOO SLOW: numpy.broadcast.per_sample at n = 50 is slower by more than 5.0%: *",
            "1 slower, 0 faster, 0 same, 0 undecided (a change counts beyond 1.0%; same: surely none)",
            "timed by pytest-benchmark, one kernel after the other and not in turns*only larger changes are found*",
        ]
    )


def test_one_pass_is_undecided_and_says_how_to_get_more(base, session):
    base(SHORT)
    result = session(GOOD, "--gradkernels-fail-slower=5%")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*undecided*", "a session is one pass and a verdict needs 6: --gradkernels-passes 8*"])


def test_the_control_and_the_canary_are_timed_beside_every_case(base, session, six_passes):
    base(STEADY)
    suite = GOOD + GOOD.replace("features=3", "n=7").replace("test_rows", "test_small")
    session(suite, "--gradkernels-csv=x.csv", PASSES)
    rows = record.read("x.csv")
    assert {(row.kernel, row.case.n, row.pass_) for row in rows if row.kernel in CONTROLS} == {
        (kernel, n, pass_) for kernel in CONTROLS for n in (50, 7) for pass_ in range(1, 7)
    }
    assert len({row.run for row in rows}) == 1
    ratio = [
        row.measurement.seconds_median for row in rows if (row.pass_, row.case.n) == (1, 7) and row.kernel in CONTROLS
    ]
    assert 0.5 < ratio[0] / ratio[1] < 2
    assert all(1e-7 < seconds < 1e-4 for seconds in ratio)


def test_yardsticks_take_turns_and_the_same_call():
    yardsticks = Yardsticks()
    facts = {"case": Coordinates("linear", "norms", 1, 1, "float64", "C", "cpu", 1)}
    yardsticks.time(facts)
    yardsticks.time(dict(facts))
    ((_, (control, canary)),) = yardsticks.timed.values()
    assert control.call is canary.call
    assert len(control.slices) == len(canary.slices) == 200


def test_a_session_that_fails_by_itself_keeps_its_own_status(base, session):
    base(SHORT)
    result = session(DOUBLED + GOOD, PASSES, "--gradkernels-fail-undecided")
    result.assert_outcomes(passed=1, failed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        ["gradkernels: the session failed, so it was not repeated for more passes", "*; exit status 1"]
    )


def test_an_expected_failure_of_a_proof_still_fails_the_comparison(base, session):
    base(STEADY)
    result = session(DOUBLED.replace("def test_mutant", "import pytest\n@pytest.mark.xfail\ndef test_mutant") + GOOD)
    result.assert_outcomes(passed=1, xfailed=1)
    assert result.ret == 4
    result.stdout.fnmatch_lines(["FAILED: numpy.mutant.per_sample * at n = 50 is wrong*", "*code 4, a proof failed*"])


@pytest.mark.parametrize("suite", ["def test_other(): pass", GOOD.replace("features=3", "features=2")])
def test_nothing_in_common_with_the_base_fails(base, session, suite):
    base(STEADY)
    result = session(suite)
    assert result.ret == 5
    result.stdout.fnmatch_lines(["NOTHING MEASURED IN COMMON: *", "*code 5, contaminated, or nothing*"])


@pytest.mark.parametrize("option", ["--collect-only", "--benchmark-disable"])
def test_a_session_that_takes_no_times_is_not_compared(base, session, option):
    base(STEADY)
    result = session(GOOD, option)
    result.stdout.no_fnmatch_line("*nothing was measured in common*")
    assert result.ret == (0 if option == "--collect-only" else pytest.ExitCode.USAGE_ERROR)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--gradkernels-compare=missing.csv"], "--gradkernels-compare: *missing.csv*"),
        (["--gradkernels-compare=test_x.py"], "--gradkernels-compare: test_x.py, line 1: column 1 is *"),
        (["--gradkernels-compare=lap.csv"], "--gradkernels-compare: lap.csv was measured on lap, and this is *"),
        (
            ["--gradkernels-compare=base.csv", "--gradkernels-fail-slower=5"],
            "--gradkernels-compare: --gradkernels-fail-slower 5 could mean 5% or 5 times; *",
        ),
        (
            ["--gradkernels-compare=base.csv", "--gradkernels-thresholds=bad.toml"],
            "--gradkernels-compare: bad.toml: there is no setting 'dleta'; did you mean delta?",
        ),
        (
            ["--gradkernels-fail-slower=5%"],
            "--gradkernels-fail-slower is about a comparison: add --gradkernels-compare*",
        ),
        (["--gradkernels-passes=3"], "--gradkernels-passes is of use for --gradkernels-csv or --gradkernels-compare*"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_runs(base, pytester, options, says):
    base(STEADY, machine="lap")
    Path("base.csv").rename("lap.csv")
    base(STEADY)
    Path("bad.toml").write_text("dleta = 1")
    pytester.makepyfile(test_x="open('ran', 'w').close()")
    result = pytester.runpytest(*QUICK, *options)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {says}"])
    assert not Path("ran").exists()


@pytest.mark.parametrize("text", ["0", "-1", "two", "1_0", "٣"])
def test_a_number_of_passes_is_a_whole_one(pytester, text):
    result = pytester.runpytest(f"--gradkernels-passes={text}")
    result.stderr.fnmatch_lines([f"*error: argument --gradkernels-passes: '{text}' is no number of passes*"])


def test_force_compares_with_another_machine_and_says_so(base, session):
    base(STEADY, machine="lap")
    result = session(GOOD, "--gradkernels-force")
    result.stdout.fnmatch_lines(["FORCED: the sides differ in machine,*"])


def test_thresholds_of_the_nearest_pyproject_decide(base, session, six_passes, pytester):
    base(SHORT)
    pytester.makepyprojecttoml('[tool.gradkernels.compare]\nfail-slower = "5%"')
    assert session(GOOD, PASSES).ret == 1


def fresh(pytester, suite, *options):
    """A session in a process of its own, with the plugin's repetition as it is."""
    pytester.makepyfile(HEAD + suite)
    return pytester.runpytest_subprocess(*QUICK, *options)


def test_passes_are_fresh_processes_that_run_the_same_suite(pytester):
    noted = "import os\nos.mkdir(f'process-{os.getpid()}')\n"
    result = fresh(
        pytester,
        noted + GOOD + GOOD.replace("test_rows", "test_more").replace("features=3", "n=4"),
        "--gradkernels-csv=x.csv",
        "--gradkernels-passes=2",
        "--benchmark-json=x.json",
        "--benchmark-autosave",
        "--junitxml=x.xml",
        "-k",
        "rows",
    )
    result.assert_outcomes(passed=1, deselected=1)
    assert result.ret == 0
    rows = [row for row in record.read("x.csv") if row.kernel not in CONTROLS]
    assert [(row.case.n, row.pass_) for row in rows] == [(50, 1), (50, 2)]
    assert len({row.run for row in rows}) == 1
    assert len(list(Path().glob("process-*"))) == 2
    assert len(list(Path(".benchmarks").rglob("*.json"))) == 1
    assert str(rows[0].measurement.seconds_median) in Path("x.json").read_text()
    result.stdout.fnmatch_lines(["gradkernels: 6 rows in *x.csv, passes 1 to 2: 6 ok"])


def test_a_pass_that_fails_fails_the_session_and_ends_the_repetition(pytester):
    once = "import os\ndef test_once():\n    os.rename('first', 'second')\n"
    Path("first").touch()
    result = fresh(pytester, once + GOOD, "--gradkernels-csv=x.csv", "--gradkernels-passes=9")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["gradkernels: pass 2 of 9 ended with code 1: *1 failed, 1 passed*"])
    assert {row.pass_ for row in record.read("x.csv")} == {1, 2}


def test_a_pass_that_is_killed_fails_the_session(pytester):
    suite = "import os\nif os.path.exists('ran'):\n    os.kill(os.getpid(), 9)\nopen('ran', 'w').close()\n" + GOOD
    result = fresh(pytester, suite, "--gradkernels-csv=x.csv", "--gradkernels-passes=2")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["gradkernels: pass 2 of 2 ended with code -9: *"])


def test_rows_alone_need_no_statistics(pytester):
    pytester.makepyfile(HEAD + GOOD)
    blocked = "import sys\nsys.modules.update(scipy=None, rich=None)\n"
    pytester.makeconftest(blocked)
    result = pytester.runpytest_subprocess(*QUICK, "--gradkernels-csv=x.csv")
    assert result.ret == 0
    result = pytester.runpytest_subprocess(*QUICK, "--gradkernels-compare=x.csv")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --gradkernels-compare needs *: pip install 'gradkernels[[]bench[]]'"])
