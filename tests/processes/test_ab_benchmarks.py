"""`ab --tests`: tests for pytest-benchmark on two revisions, in turns, each in a session of its own."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from test_ab import git

from gradkernels.bench.ab.benchmarks.choose import choose_benchmarks, relative_tests
from gradkernels.bench.ab.benchmarks.fixture import OneCall
from gradkernels.bench.ab.client import Side
from gradkernels.bench.ab.interleaved import paired_pass
from gradkernels.bench.ab.messages import Setting
from gradkernels.bench.cli import main

WORK = """
def work(times):
    return sum(i * i for i in range(100 * times * {times}))
"""
TESTS = """
import pytest
from mine import work

MADE = []

@pytest.fixture(scope="module")
def shared():
    MADE.append(1)
    return [3, 1, 2]

def test_work(benchmark, shared):
    assert benchmark(work, 1) > 0
    assert MADE == [1]

@pytest.mark.parametrize("n", [1, 4])
def test_sized(benchmark, shared, n):
    benchmark(work, n)
    assert MADE == [1], "shared by the tests of a module"

def test_set_up(benchmark):
    fresh = []
    def setup():
        fresh.append(list(range(50)))
        return (fresh[-1],), {}
    def takes(numbers):
        work(1)
        return [numbers.pop() for _ in range(50)]
    assert benchmark.pedantic(takes, setup=setup, rounds=5)[0] == 49
    assert len(fresh) > 100

def test_wrong(benchmark):
    assert benchmark(lambda: {right}) == 1

def test_raises(benchmark):
    benchmark(lambda: [][{times}])

def test_skipped(benchmark):
    pytest.skip("not today")

def test_twice(benchmark):
    benchmark(work, 1)
    benchmark(work, 1)

def test_unused(benchmark):
    pass

def test_of_{side}(benchmark):
    benchmark(work, 1)

def test_not(benchmark):
    raise SystemError

def test_other():
    raise SystemError
"""


def write(folder: Path, times: int, side: str) -> Path:
    (folder / "src" / "mine").mkdir(parents=True, exist_ok=True)
    (folder / "tests").mkdir(exist_ok=True)
    (folder / "src" / "mine" / "__init__.py").write_text(WORK.format(times=times))
    text = TESTS.replace("{right}", str(times)).replace("{times}", str(times)).replace("{side}", side)
    (folder / "tests" / "bench_mine.py").write_text(text)
    # Its own options hold, but for those that leave benchmarks out or would distort times.
    own = "--benchmark-skip --numprocesses 2 --import-mode=importlib --last-failed"
    own += " --deselect tests/bench_mine.py::test_not"
    (folder / "pyproject.toml").write_text(f'[tool.pytest.ini_options]\naddopts = "{own}"\n')
    return folder


@pytest.fixture(scope="module")
def sides(tmp_path_factory):
    """Two revisions; the work of the second takes three times as long."""
    folders = [write(tmp_path_factory.mktemp(name), times, name) for name, times in (("old", 1), ("new", 3))]
    return tuple(Side(folder.name, folder / "src", project=folder) for folder in folders)


@pytest.fixture(scope="module")
def present(sides):
    return choose_benchmarks(sides, ["tests/bench_mine.py"], 1)


@pytest.fixture(scope="module")
def samples(sides, present, tmp_path_factory):
    """What one pass says of each test that both have, by name."""
    both = [target for target, where in present.items() if all(where)]
    folder = tmp_path_factory.mktemp("inputs")
    found = paired_pass(sides, both, Setting(), folder, np.random.default_rng(0))
    return {target.test.partition("::")[2]: sample for target, sample in found}


def test_tests_with_the_fixture_are_paired_by_name(present):
    assert {target.test.partition("::")[2]: where for target, where in present.items() if not all(where)} == {
        "test_of_old": (True, False),
        "test_of_new": (False, True),
    }
    sized = [target for target in present if target.kernel == "function.test_sized.value"]
    assert [(target.n, target.case.n, target.case.problem) for target in sized] == [
        (n, n, "function:tests/bench_mine.py::test_sized") for n in (1, 4)
    ]
    assert not {"function.test_other.value", "function.test_not.value"} & {target.kernel for target in present}


def test_work_of_three_times_the_length_is_seen_as_such(samples):
    for name in ("test_work", "test_sized[1]", "test_sized[4]", "test_set_up"):
        assert samples[name].ok, samples[name]
    for name in ("test_work", "test_sized[1]", "test_sized[4]"):
        assert 2 < np.exp(samples[name].log) < 4.5, name
    assert 1.2 < np.exp(samples["test_set_up"].log) < 4.5
    assert samples["test_sized[4]"].seconds[0] > 2 * samples["test_sized[1]"].seconds[0]


@pytest.mark.parametrize(
    ("name", "statuses", "reason"),
    [
        ("test_wrong", ("ok", "wrong"), "AssertionError: assert 3 == 1"),
        ("test_raises", ("failed", "failed"), "IndexError: list index out of range"),
        ("test_skipped", ("unsupported", "unsupported"), "not today"),
        ("test_twice", ("failed", "failed"), "RuntimeError: the fixture benchmark can be used once in a test"),
        ("test_unused", ("failed", "failed"), "it does not call its fixture benchmark"),
    ],
)
def test_a_test_that_fails_has_no_time_and_the_others_go_on(samples, name, statuses, reason):
    assert samples[name].statuses == statuses
    assert samples[name].reasons[1].startswith(reason)


def test_what_cannot_be_collected_is_said(sides, tmp_path):
    folder = write(tmp_path, 1, "x")
    (folder / "tests" / "bench_mine.py").write_text("import nowhere\n")
    broken = Side("broken", folder / "src", project=folder)
    says = "broken cannot take part: ValueError: tests/bench_mine.py cannot be collected: .*No module named 'nowhere'"
    with pytest.raises(ValueError, match=says):
        choose_benchmarks((broken, sides[0]), ["tests/bench_mine.py"], 1)


def test_files_that_neither_has_are_said(sides):
    with pytest.raises(ValueError, match="neither side has a test with the fixture benchmark in tests/nowhere.py"):
        choose_benchmarks(sides, ["tests/nowhere.py"], 1)


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """Both revisions as commits of one repository."""
    folder = tmp_path / "repository"
    for name in ("GIT_AUTHOR", "GIT_COMMITTER"):
        monkeypatch.setenv(f"{name}_NAME", "a")
        monkeypatch.setenv(f"{name}_EMAIL", "a@example.org")
    for times, side in ((1, "old"), (3, "new")):
        write(folder, times, side)
        git(folder, "init", "--quiet")
        git(folder, "add", ".")
        git(folder, "commit", "--quiet", "--message", side)
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--tests", "../x.py"), "--tests '../x.py': name a file or folder of tests in "),
        (("--tests", ""), "--tests is empty; give it a value or leave it out"),
        (("--tests", "tests", "--kernel", "numpy"), "--kernel is about kernels; leave it out beside --tests"),
        (("--tests", "tests", "--sizes", "10"), "--sizes is about kernels; leave it out beside --tests"),
        (("--tests", "tests", "--no-intercept"), "--no-intercept is about kernels; leave it out beside --tests"),
        (("--tests", "tests", "--problem", "huber"), "--problem is about kernels; leave it out beside --tests"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_starts(repository, capsys, arguments, says):
    assert main(["ab", *arguments]) == 2
    assert capsys.readouterr().err.startswith(f"gradkernels: {says}")


def test_files_are_named_from_where_a_person_stands(repository):
    inner = repository / "tests"
    assert relative_tests(["bench_mine.py::test_a[x::y]", "."], inner) == ("tests/bench_mine.py::test_a[x::y]", "tests")


def test_a_revision_three_times_as_slow_is_found(repository, capsys, long):
    if not long:
        pytest.skip("a minute; with --long")
    one = "tests/bench_mine.py::test_sized"
    code = main(["ab", "HEAD~1", "HEAD", "--tests", one, "--fail-slower", "5%", "--format", "csv"])
    printed = capsys.readouterr()
    assert code == 1, printed.err
    rows = list(csv.DictReader(io.StringIO(printed.out)))
    assert [(row["problem"], row["n"], row["verdict"]) for row in rows] == [
        (f"function:{one}", n, "slower") for n in ("1", "4")
    ]
    assert "tests/bench_mine.py is not the same in HEAD~1 and HEAD: a change may be one of the tests" in printed.err


def test_a_call_with_a_set_up_is_timed_without_it():
    calls = []
    one = OneCall(lambda x, y: calls.append((x, y)) or x + y, setup=lambda: ((1,), {"y": 2}), teardown=calls.append)
    with pytest.raises(TypeError):
        one.make()  # the teardown gets the arguments, as pytest-benchmark gives them
    one = OneCall(one.function, setup=one.setup, teardown=lambda x, y: calls.append("down"))
    assert one.make() == 3
    calls.clear()
    timed = one.timed
    assert 0 < timed.clock(timed.call, 3) < 0.1
    assert calls == [(1, 2), "down"] * 3
