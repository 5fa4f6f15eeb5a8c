"""Any test with the fixture `benchmark` in a session that keeps its rows: it has one, beside the controls."""

import pytest
from measured import STEADY, passes, scaled
from test_pytest_gate import write_first_pass_again
from test_pytest_plugin import GOOD, HEAD, QUICK

from gradkernels import record
from gradkernels.bench.pytest_plugin import functions
from gradkernels.dispatch.machine import machine
from gradkernels.key import CONTROLS

pytest_plugins = ["pytester"]

SUITE = """
import pytest

def test_sum(benchmark):
    assert benchmark(sum, [1, 2]) == 3

@pytest.mark.parametrize("n", [3, 50])
def test_sized(benchmark, n):
    benchmark(sum, range(n))

@pytest.mark.parametrize("how", ["a", "b"])
def test_named(benchmark, how):
    benchmark(len, how)

@pytest.mark.parametrize("how", ["a"])
@pytest.mark.parametrize("size", [4])
def test_both(benchmark, size, how):
    benchmark.pedantic(len, (how * size,), rounds=3)

class TestIn:
    def test_inside(self, benchmark):
        benchmark(sum, [1])

def test_wrong(benchmark):
    assert benchmark(sum, [1]) == 2

def test_raises(benchmark):
    benchmark(lambda: 1 / 0)

@pytest.mark.skip(reason="not today")
def test_skipped(benchmark):
    pass

def test_other():
    pass
"""
FILE = "function:test_any_test_that_pytest_benchmark_times_has_a_row.py::"


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr("pytest_benchmark.plugin.get_cpu_info", lambda: {"count": 4})  # takes a second


def rows():
    return [row for row in record.read("x.csv") if row.kernel not in CONTROLS]


def test_any_test_that_pytest_benchmark_times_has_a_row(pytester, quick):
    pytester.makepyfile(SUITE)
    result = pytester.runpytest(*QUICK, "--gradkernels-csv=x.csv")
    result.assert_outcomes(passed=8, failed=2, skipped=1)
    found = [(row.case.problem.removeprefix(FILE), row.kernel, row.case.n, row.measurement.status) for row in rows()]
    assert found == [
        ("test_sum", "function.test_sum.value", 1, "ok"),
        ("test_sized", "function.test_sized.value", 3, "ok"),
        ("test_sized", "function.test_sized.value", 50, "ok"),
        ("test_named[a]", "function.test_named.value", 1, "ok"),
        ("test_named[b]", "function.test_named.value", 1, "ok"),
        ("test_both(how=a)", "function.test_both.value", 4, "ok"),
        ("TestIn::test_inside", "function.test_inside.value", 1, "ok"),
        ("test_wrong", "function.test_wrong.value", 1, "wrong"),
        ("test_raises", "function.test_raises.value", 1, "failed"),
        ("test_skipped", "function.test_skipped.value", 1, "unsupported"),
    ]
    reasons = {row.kernel.split(".")[1]: row.measurement.reason for row in rows() if row.measurement.reason}
    assert reasons["test_raises"] == "ZeroDivisionError: division by zero"
    assert reasons["test_skipped"] == "not today"
    assert reasons["test_wrong"].startswith("AssertionError: assert 1 == 2")
    assert all(row.measurement.seconds_median is None for row in rows() if row.measurement.status != "ok")
    assert {row.case.problem for row in record.read("x.csv")} == {
        row.case.problem for row in record.read("x.csv") if row.kernel == "canary"
    } | {f"{FILE}test_skipped"}


def test_kernels_have_their_rows_once(pytester, quick):
    pytester.makepyfile(HEAD + GOOD + "\ndef test_sum(benchmark):\n    benchmark(sum, [1])\n")
    pytester.runpytest(*QUICK, "--gradkernels-csv=x.csv").assert_outcomes(passed=2)
    assert [row.kernel for row in rows()] == ["numpy.broadcast.per_sample", "function.test_sum.value"]


@pytest.mark.parametrize(("times", "code"), [(scaled(STEADY, 1e-12), 1), (scaled(STEADY, 100.0), 0)])
def test_the_gate_judges_any_test(pytester, quick, monkeypatch, times, code):
    case = {"problem": "function:test_it.py::test_sum", "quantity": "value", "n": 1, "parameters": 0,
            "dtype": "object", "kernel": "function.test_sum.value", "backend": "function", "machine": machine(),
            "run": "base"}  # fmt: skip
    monkeypatch.setattr(functions, "threads_by", lambda names: 1)
    (pytester.path / "base.csv").write_text(record.HEADER)
    record.append(pytester.path / "base.csv", passes(times, **case))
    pytester.makepyfile(test_it="def test_sum(benchmark):\n    benchmark(sum, [1])\n")
    monkeypatch.setattr("gradkernels.bench.pytest_plugin.passes._run", write_first_pass_again)
    gate = ("--gradkernels-compare=base.csv", "--gradkernels-passes=6", "--gradkernels-fail-slower=5%")
    result = pytester.runpytest(*QUICK, *gate)
    assert result.ret == code, result.stdout.str()
