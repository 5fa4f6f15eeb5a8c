"""The pytest plugin in sessions of its own: what it times, what it refuses to time, and what it writes."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import scipy.special  # noqa: F401  sessions in this process forget what they load, and this cannot be loaded again
from measured import cells, changed, passes

import gradkernels as gk
from gradkernels import record
from gradkernels.backend import BACKENDS, Backend, numpy_arrays
from gradkernels.bench.cli import parse  # noqa: F401
from gradkernels.bench.pytest_plugin import finish, gate, timing  # noqa: F401
from gradkernels.bench.pytest_plugin import threads as pytest_threads
from gradkernels.bench.pytest_plugin.rows import start
from gradkernels.bench.results.importing import read_imported
from gradkernels.key import CONTROLS
from gradkernels.quantity import QUANTITIES

OF_LOSSES = [name for name, one in QUANTITIES.items() if not one.of_outputs]

pytest_plugins = ["pytester"]

# Sessions within this one forget what they load: a test that patches it would patch what the next session does not use.
gk.kernels()

ROOT = Path(__file__).parents[2]
# -W error: the plugin may cause no warning, neither its own nor one of pytest-benchmark's.
QUICK = ["-Werror", "-rs", "-p", "no:cacheprovider", "-p", "no:hypothesispytest"]
QUICK += ["--benchmark-min-rounds=2", "--benchmark-max-time=0.001", "--benchmark-warmup=off"]
JSON = "--benchmark-json=x.json"
HEAD = """
from dataclasses import replace
import numpy as np
import gradkernels as gk
KERNEL = gk.kernel("numpy.broadcast.per_sample")
def case(n=50, **more):
    return gk.Case(gk.LinearRegression(), "per_sample", n, **more)
"""
GOOD = """
def test_rows(gradkernels_benchmark):
    gradkernels_benchmark("numpy.broadcast.per_sample", case(features=3))
"""
DOUBLED = """
def doubled(problem):
    compute = KERNEL.build(problem)
    return lambda theta, x, y, out=None: 2 * compute(theta, x, y)
def test_mutant(gradkernels_benchmark):
    gradkernels_benchmark(replace(KERNEL, name="mutant", builder=doubled), case())
"""
FORGETFUL = """
def remembers(problem):
    compute, seen = KERNEL.build(problem), {}
    return lambda theta, x, y: seen.setdefault(len(y), compute(theta, x, y)).copy()
def test_mutant(gradkernels_benchmark):
    gradkernels_benchmark(replace(KERNEL, name="mutant", builder=remembers, out=False), case())
"""
BROKEN = """
def broken(problem):
    raise RuntimeError("no such chip")
def test_mutant(gradkernels_benchmark):
    gradkernels_benchmark(replace(KERNEL, name="mutant", builder=broken), case())
"""


@pytest.fixture
def session(pytester, monkeypatch):
    """`session(suite, *options)` runs a suite that writes x.csv; gives pytest's result."""
    monkeypatch.setattr("pytest_benchmark.plugin.get_cpu_info", lambda: {"count": 4})  # takes a second

    def run(suite, *options):
        pytester.makepyfile(HEAD + suite)
        return pytester.runpytest(*QUICK, "--gradkernels-csv=x.csv", *options)

    return run


def rows():
    """The kernels' rows of the file."""
    return [row for row in record.read("x.csv") if row.kernel not in CONTROLS]


def timed():
    return json.loads(Path("x.json").read_text())["benchmarks"]


def test_a_proven_kernel_is_timed_and_described(session):
    session(GOOD, JSON).assert_outcomes(passed=1)
    (benchmark,) = timed()
    assert benchmark["group"] == "linear per_sample n=50 features=3"
    info = benchmark["extra_info"]
    assert info["kernel"] == "numpy.broadcast.per_sample"
    assert (info["problem"], info["quantity"], info["backend"]) == ("linear", "per_sample", "numpy")
    assert (info["n"], info["features"], info["parameters"], info["seed"]) == (50, 3, 4, 0)
    assert (info["dtype"], info["layout"], info["device"], info["threads"]) == ("float64", "C", "cpu", 1)
    assert 0 <= info["error"] <= info["tolerance"] < 1e-13
    assert 0 < info["seconds_first"] < 60


def test_the_file_says_what_pytest_benchmark_measured(session):
    result = session(GOOD, JSON)
    (row,), (benchmark,) = rows(), timed()
    stats = benchmark["stats"]
    assert (row.measurement.status, row.pass_, row.kernel, row.case.n) == ("ok", 1, "numpy.broadcast.per_sample", 50)
    assert (row.measurement.seconds_median, row.measurement.seconds_min) == (stats["median"], stats["min"])
    assert (row.measurement.seconds_q25, row.measurement.seconds_q75) == (stats["q1"], stats["q3"])
    assert (row.measurement.rounds, row.measurement.iterations) == (stats["rounds"], stats["iterations"])
    result.stdout.fnmatch_lines(["gradkernels: 3 rows in *x.csv, pass 1: 3 ok"])


MUTANTS = pytest.mark.parametrize("mutant", [DOUBLED, FORGETFUL], ids=["doubled", "remembers its first answer"])


@MUTANTS
def test_a_wrong_kernel_fails_and_leaves_no_time(session, mutant):
    result = session(mutant)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*Disagreement: numpy.mutant.per_sample*"])
    result.stdout.no_fnmatch_line("*benchmark 'linear*")
    (row,) = rows()
    assert (row.measurement.status, row.kernel, row.measurement.seconds_median) == (
        "wrong",
        "numpy.mutant.per_sample",
        None,
    )
    assert "expected" in row.measurement.reason


@MUTANTS
def test_a_wrong_kernel_does_not_take_the_others_with_it(session, mutant):
    session(mutant + GOOD, JSON).assert_outcomes(passed=1, failed=1)
    assert [row.measurement.status for row in rows()] == ["wrong", "ok"]
    assert [benchmark["extra_info"]["kernel"] for benchmark in timed()] == ["numpy.broadcast.per_sample"]


def test_a_kernel_that_is_wrong_at_once_is_never_timed(session):
    counting = DOUBLED.replace("lambda theta, x, y, out=None: 2", "lambda theta, x, y, out=None: calls.append(1) or 2")
    suite = f"calls = []{counting}def test_calls():\n    assert 0 < len(calls) < 50"
    session(suite, "--benchmark-min-rounds=100").assert_outcomes(passed=1, failed=1)


def test_a_kernel_that_raises_is_a_failed_row(session):
    session(BROKEN).assert_outcomes(failed=1)
    (row,) = rows()
    assert (row.measurement.status, row.measurement.reason) == ("failed", "RuntimeError: no such chip")


def test_a_wrong_kernel_fails_when_times_are_switched_off(pytester):
    pytester.makepyfile(HEAD + GOOD + FORGETFUL)
    pytester.runpytest(*QUICK, "--benchmark-disable").assert_outcomes(passed=1, failed=1)


def test_every_reason_for_not_being_able_is_given(session):
    result = session("""
def test_rows(gradkernels_benchmark):
    gradkernels_benchmark("numpy.matmul.gradient", case(device="cuda"))
""")
    result.assert_outcomes(skipped=1)
    reasons = "numpy computes on cpu here, not on cuda; numpy.matmul.gradient computes gradient, not per_sample"
    result.stdout.fnmatch_lines([f"SKIPPED*{reasons}"])
    (row,) = rows()
    assert (row.measurement.status, row.measurement.reason) == ("unsupported", reasons)


def test_a_loop_that_would_take_too_long_is_skipped_with_its_estimate(session):
    suite = """
def test_loop(gradkernels_benchmark):
    gradkernels_benchmark("numpy.loop.per_sample", case(n=10**6))
"""
    session(suite, "--gradkernels-max-call=10ms").assert_outcomes(skipped=1)
    (row,) = rows()
    assert row.measurement.status == "timeout"
    assert row.measurement.reason.startswith("a call of numpy.loop.per_sample at n=1000000 would take about ")
    assert row.measurement.reason.endswith(" s, more than 0.01 s")


def test_waiting_is_timed_and_conversion_is_not(session, monkeypatch):
    put = Backend.put
    monkeypatch.setattr(Backend, "eager", lambda self, device: False)
    monkeypatch.setattr(Backend, "wait", lambda self, result: time.sleep(0.002) or result)
    monkeypatch.setattr(Backend, "put", lambda self, array, device="cpu": time.sleep(0.02) or put(self, array, device))
    session(GOOD).assert_outcomes(passed=1)
    (row,) = rows()
    assert 0.002 <= row.measurement.seconds_min < 0.02


def test_memory_given_for_the_result_is_part_of_the_key(session):
    result = session("""
import pytest
def test_out(gradkernels_benchmark):
    assert gradkernels_benchmark(KERNEL, case(n=2), out=True).shape == (2, 2)
def test_no_out(gradkernels_benchmark):
    with pytest.raises(ValueError, match="numpy.matmul.gradient takes no out="):
        gradkernels_benchmark("numpy.matmul.gradient", case(), out=True)
    gradkernels_benchmark(KERNEL, case())
""")
    result.assert_outcomes(passed=2)
    assert [row.kernel for row in rows()] == ["numpy.broadcast.per_sample@out", "numpy.broadcast.per_sample"]


def test_a_marked_group_stays(session):
    session('import pytest\npytestmark = pytest.mark.benchmark(group="mine")' + GOOD, JSON)
    assert timed()[0]["group"] == "mine"


def test_a_pass_has_one_row_for_each_kernel_and_case(session):
    session(GOOD + GOOD.replace("test_rows", "test_again")).assert_outcomes(passed=1, skipped=1)
    assert len(rows()) == 1


def test_an_existing_file_is_refused_before_anything_runs(session):
    Path("x.csv").write_text("precious")
    result = session("open('ran', 'w').close()")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --gradkernels-csv: *x.csv is there already;*--gradkernels-csv-append"])
    assert Path("x.csv").read_text() == "precious"
    assert not Path("ran").exists()


def test_appending_adds_the_next_pass_and_changes_nothing_before_it(session):
    session(GOOD)
    before = Path("x.csv").read_bytes()
    result = session(GOOD, "--gradkernels-csv-append")
    first, second = rows()
    assert (first.pass_, second.pass_) == (1, 2)
    assert first.run != second.run
    assert Path("x.csv").read_bytes().startswith(before)
    result.stdout.fnmatch_lines(["gradkernels: 3 rows in *x.csv, pass 2: 3 ok"])


@pytest.mark.parametrize("rows", [0, 2])
@pytest.mark.parametrize("schema", [1, 2])
def test_a_file_of_an_older_schema_gets_the_columns_of_now_before_it_is_appended_to(tmp_path, schema, rows):
    path, known = tmp_path / "x.csv", passes([1.0, 2.0])[:rows]
    width = record.OLD_HEADERS[schema - 1].count(",") + 1
    lines = [record.line(cells(row)[:width]) for row in known]
    path.write_text(record.OLD_HEADERS[schema - 1] + "".join(lines))
    added = start(path, extend=True)
    assert added.pass_ == rows + 1
    added.add(changed(known[0] if known else passes([1.0])[0], pass_=9))
    assert record.has_current_columns(path)
    assert [row.pass_ for row in record.read(path)] == [*range(1, rows + 1), 9]


def test_only_a_results_file_is_appended_to(session):
    Path("x.csv").write_text("precious")
    result = session(GOOD, "--gradkernels-csv-append")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --gradkernels-csv: *x.csv, line 1: column 1 is 'precious'*"])
    assert Path("x.csv").read_text() == "precious"


@pytest.mark.parametrize("option", ["--benchmark-disable", "--benchmark-skip", "-p no:benchmark"])
def test_a_file_of_times_is_refused_where_no_times_are_taken(pytester, option):
    pytester.makepyfile(HEAD + GOOD)
    options = [word for word in QUICK if "benchmark" not in word]
    result = pytester.runpytest(*options, *option.split(), "--gradkernels-csv=x.csv")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --gradkernels-csv writes times, and *benchmark*"])
    assert not Path("x.csv").exists()


def test_a_place_that_cannot_be_written_is_refused(pytester):
    pytester.makepyfile(HEAD + GOOD)
    Path("file").touch()
    result = pytester.runpytest(*QUICK, "--gradkernels-csv=file/x.csv")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --gradkernels-csv: *file*"])


def test_no_file_is_left_without_a_row(session):
    result = session("def test_other(): pass")
    assert not Path("x.csv").exists()
    result.stdout.fnmatch_lines(["gradkernels: nothing written to *x.csv: no test used benchmark or grad*"])


def test_without_pytest_benchmark_only_its_tests_are_skipped(pytester):
    pytester.makepyfile(HEAD + GOOD + "def test_other(): pass")
    result = pytester.runpytest("-Werror", "-rs", "-p", "no:benchmark", "-p", "no:hypothesispytest")
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED*gradkernels_benchmark: pytest-benchmark is not installed or switched off*"])


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("sizes=ten", "'ten' is not a number; write 10:1e6 or 10,100,1000"),
        ("quantities=norm", "there is no quantity 'norm'; did you mean norms or*"),
        ("problems=liner", "there is no problem 'liner'; did you mean linear?"),
        ("dtypes=int8", "there is no dtype 'int8'; known: float64, float32"),
        ("kernels=numpy.lop", "there is no kernel 'numpy.lop'; did you mean numpy.loop*"),
        ("max-call=0", "it must be a positive time"),
    ],
)
def test_a_mistyped_option_is_one_sentence(pytester, option, says):
    result = pytester.runpytest(f"--gradkernels-{option}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*error: argument --gradkernels-*{says}"])


@pytest.mark.parametrize("pools", [True, False], ids=["with threadpoolctl", "without"])
def test_threads_are_limited_for_the_time_and_given_back(monkeypatch, pools):
    torch = pytest.importorskip("torch")
    if not pools:
        monkeypatch.setattr(numpy_arrays, "threadpoolctl", lambda: None)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    with pytest_threads.limited(BACKENDS["torch"], 1) as threads:
        assert (threads, torch.get_num_threads()) == (1, 1)
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", ["torch", "opacus", "backpack"])
def test_what_computes_on_tensors_has_the_threads_of_torch(monkeypatch, name):
    pytest.importorskip(name)
    monkeypatch.setattr(numpy_arrays, "threadpoolctl", lambda: None)
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "7")
    with pytest_threads.limited(BACKENDS[name], 2) as threads:
        assert threads == 2


def test_threads_that_nobody_can_limit_are_recorded_as_they_are(monkeypatch):
    monkeypatch.setattr(numpy_arrays, "threadpoolctl", lambda: None)
    for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setattr("os.cpu_count", lambda: 5)
    with pytest_threads.limited(BACKENDS["numpy"], 1) as threads:
        assert threads == 7
    monkeypatch.delenv("OMP_NUM_THREADS")
    with pytest_threads.limited(BACKENDS["numpy"], 1) as threads:
        assert threads == 5


def test_the_plugin_loads_nothing_heavy():
    heavy = "numpy torch jax pandas scipy matplotlib typer pytest_benchmark gradkernels.bench.pytest_plugin.timing"
    code = f"import sys, gradkernels.bench.pytest_plugin\nprint([m for m in {heavy.split()} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_a_prepared_process_has_one_thread_and_64_bits_unless_the_user_chose():
    code = (
        "from gradkernels.bench.pytest_plugin.threads import prepare_process; prepare_process(); "
        "print(*map(os.environ.get, sys.argv[1:]))"
    )
    names = ["JAX_ENABLE_X64", "PJRT_NPROC", "NPROC", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"]

    def prepared(before="", **chosen):
        command = [sys.executable, "-c", f"import os, sys; {before}{code}", *names]
        return subprocess.run(command, capture_output=True, text=True, env={**clean_environment(), **chosen}).stdout

    assert prepared() == "1 1 None 1 1\n"
    assert prepared(NPROC="3", OMP_NUM_THREADS="2", JAX_ENABLE_X64="0") == "0 None 3 None 2\n"
    assert prepared("import numpy; ") == "1 1 None None None\n"


def clean_environment():
    """Without what tests/conftest.py sets, so that nothing but the code under test can set it."""
    return {name: value for name, value in os.environ.items() if not re.search("JAX|NPROC|_NUM_THREADS|XLA", name)}


THIRD_PARTY = """
from gradkernels.kernel import declare
from gradkernels.problems import Regression

@declare("numpy.added.per_sample", problems=Regression)
def added(problem):
    from gradkernels.registry import kernel
    return kernel("numpy.broadcast.per_sample").build(problem)

@declare("numpy.mutant.per_sample", problems=Regression)
def mutant(problem):
    compute = added.build(problem)
    return lambda theta, x, y: -compute(theta, x, y)
"""


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    """`pytest bench` where another package adds one file of kernels: pytest's process, and the rows by key."""
    folder = tmp_path_factory.mktemp("suite")
    (folder / "third_party.py").write_text(THIRD_PARTY)
    (folder / "third_party-1.dist-info").mkdir()
    (folder / "third_party-1.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: third-party\nVersion: 1\n"
    )
    (folder / "third_party-1.dist-info" / "entry_points.txt").write_text("[gradkernels.kernels]\nmine = third_party\n")
    options = ["-k", "numpy or jax.vmap.per_sample", "--gradkernels-sizes=5", "--gradkernels-quantities=all"]
    files = [f"--gradkernels-csv={folder}/x.csv", f"--benchmark-json={folder}/x.json"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "bench", *QUICK, *options, *files],
        cwd=ROOT,
        env={**clean_environment(), "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
    )
    rows = [row for row in record.read(folder / "x.csv") if row.kernel not in CONTROLS]
    return done, rows, read_imported(folder / "x.json").records


def test_the_suite_fails_for_a_wrong_kernel_and_for_no_other(suite):
    done, written, _ = suite
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    wrong = {row.kernel for row in written if row.measurement.status != "ok"}
    # Negated rows have the right norms, and the right products with each other.
    right = {"per_sample", "norms", "norms_by", "gram", "gram_by", "outer"}
    assert wrong == {"numpy.mutant.per_sample", *(f"numpy.mutant+.{one}" for one in OF_LOSSES if one not in right)}


def test_a_kernel_of_one_file_is_timed_in_every_quantity_without_an_edit(suite):
    added = {row.kernel: row.measurement.seconds_median for row in suite[1] if row.kernel.startswith("numpy.added")}
    composed = [f"numpy.added+.{quantity}" for quantity in OF_LOSSES if quantity != "per_sample"]
    assert added.keys() == {"numpy.added.per_sample", *composed}
    assert min(added.values()) > 0


def test_importing_the_json_gives_the_rows_of_the_file(suite):
    _, written, imported = suite
    # pytest-benchmark asks git for the commit in words of its own.
    assert [changed(row, commit="") for row in imported] == [
        changed(row, commit="") for row in written if row.measurement.status == "ok"
    ]
    assert len(imported) > 15


def test_the_suite_groups_by_case_and_names_by_kernel(suite):
    output = suite[0].stdout
    assert "benchmark 'linear gradient n=5'" in output
    assert "test_kernel[numpy.matmul.gradient-n=5]" in output
    assert "test_kernel[numpy.broadcast.per_sample@out-n=5]" in output


def test_the_suite_gives_jax_64_bits_and_one_thread(suite):
    pytest.importorskip("jax")
    (row,) = (row for row in suite[1] if row.kernel == "jax.vmap.per_sample")
    assert (row.measurement.status, row.case.dtype, row.case.threads) == ("ok", "float64", 1)
