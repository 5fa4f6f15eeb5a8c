"""Files that other tools wrote, as they wrote them: every row from its place, and a sentence for what is no file."""

from __future__ import annotations

import gzip
import json
import time
from pathlib import Path

import pytest

from gradkernels.bench.cli import main
from gradkernels.bench.results.functions import benchmark_names, sized
from gradkernels.bench.results.import_kinds import import_kinds
from gradkernels.bench.results.imported import FunctionTime, function_records, moment, run_name_of, spread_of
from gradkernels.bench.results.importing import read_imported
from gradkernels.coordinates import Coordinates
from gradkernels.record import Measurement, Record, Status, read

SAVED = Path(__file__).parent / "saved"


def rows_of(path, kind=None):
    return read_imported(path, 1, kind).records


def told(row):
    return row.case.problem, row.kernel, row.case.n, row.case.threads, row.pass_


def test_the_tools_are_known_by_their_modules():
    assert list(import_kinds()) == ["asv", "google-benchmark", "pyperf", "pytest-benchmark"]


@pytest.mark.parametrize("name", ["asv", "google-benchmark", "pyperf", "pytest-benchmark"])
def test_a_file_is_known_by_what_it_holds(name):
    path = SAVED / f"{name}.json"
    assert rows_of(path) == rows_of(path, name)
    for row in rows_of(path):
        assert row.case.problem.startswith("function:")
        if row.measurement.status == Status.ok:
            assert (row.measurement.error, row.measurement.tolerance) == (0, 0)
            assert row.measurement.reason.endswith("without a proof")


MINE = """
from gradkernels.bench.results.imported import FunctionTime, ImportedBenchmarks, function_records, spread_of


def recognises(document):
    return "mine" in document


def read(file):
    found = [FunctionTime(name, name, spread_of(times, 1), 7) for name, times in file.document["mine"].items()]
    return ImportedBenchmarks(function_records("mine", {"run": file.run}, found))
"""


def test_a_tool_is_a_file_and_nothing_else(tmp_path, monkeypatch, capsys):
    from gradkernels.bench.results import imports

    (tmp_path / "my_tool.py").write_text(MINE)
    monkeypatch.setattr(imports, "__path__", [*imports.__path__, str(tmp_path)])
    assert "my-tool" in import_kinds()
    monkeypatch.chdir(tmp_path)
    Path("a.json").write_text(json.dumps({"mine": {"f": [3.0, 1.0, 2.0]}}))
    assert main(["import", "a.json", "-o", "x.csv"]) == 0
    [row] = read("x.csv")
    assert told(row) == ("function:f", "function.f.value", 7, 1, 1)
    assert (row.measurement.seconds_min, row.measurement.seconds_median, row.machine) == (1, 2, "unknown")


@pytest.mark.parametrize("kind", ["asv", "google-benchmark", "pyperf", "pytest-benchmark"])
@pytest.mark.parametrize("document", [[], 3, None, {}, {"benchmarks": 3}, {"benchmarks": [3]}, {"results": [1]}])
def test_another_file_is_one_sentence_whatever_it_is_said_to_be(tmp_path, monkeypatch, capsys, kind, document):
    monkeypatch.chdir(tmp_path)
    Path("a.json").write_text(json.dumps(document))
    assert main(["import", "a.json", "-o", "x.csv", "--kind", kind]) == 2
    told = capsys.readouterr().err
    assert told.startswith("gradkernels: ")
    assert told.count("\n") == 1


def test_a_kind_that_is_none_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("a.json").write_text("{}")
    assert main(["import", "a.json", "-o", "x.csv", "--kind", "pyprof"]) == 2
    assert "there is no kind of file 'pyprof'; did you mean pyperf?" in capsys.readouterr().err


def test_a_function_has_a_row_of_all_columns():
    times = {"seconds_median": 2.0, "rounds": 5}
    found = [
        FunctionTime("suite: a b[X]", "a b[X]!", times, 7, 3, 4),
        FunctionTime("suite: !", "!", {}, failed="no data"),
    ]
    timed, failed = function_records("mine", {"run": "f1", "python": "3.12.1"}, found)
    assert timed == Record(
        3, "f1", "", "unknown", "", 1, "", "3.12.1", "", "",
        Coordinates("function:suite: a b[X]", "value", 7, 1, "object", "C", "cpu", 3), 0, 0, 4,
        Measurement(
            "function.a_b_X.value", "function", "ok", "timed by mine, without a proof", 0.0, 0.0, 5, seconds_median=2.0
        ),
    )  # fmt: skip
    assert failed.case == Coordinates("function:suite: !", "value", 1, 1, "object", "C", "cpu", 1)
    assert failed.measurement == Measurement("function.unnamed.value", "function", "failed", "no data")
    assert (failed.python, failed.pass_) == ("3.12.1", 1)
    with pytest.raises(ValueError, match="^f: 'ok' without a positive time: seconds_median is 0$"):
        function_records("mine", {"run": "f1"}, [FunctionTime("f", "f", {"seconds_median": 0})])


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ((1.0, 1.5, 2.0, 3.0), (1.0, 1.5, 2.0, 3.0)),
        ((3.0, 2.5, 2.0, 1.0), (2.0, 2.0, 2.0, 2.0)),
        ((1.5, 1.0, 2.0, 3.0), (1.0, 1.0, 2.0, 3.0)),
        ((3.0, 1.0, 2.0, None), (1.0, 1.0, 2.0, None)),
        ((3.0, None, 2.0, 1.0), (2.0, None, 2.0, 2.0)),
        ((None, 3.0, 2.0, 4.0), (None, 2.0, 2.0, 4.0)),
        ((None, None, 2.0, None), (None, None, 2.0, None)),
    ],
)
def test_a_median_stands_and_no_time_around_it_is_on_its_other_side(given, kept):
    names = ("seconds_min", "seconds_q25", "seconds_median", "seconds_q75")
    [row] = function_records("mine", {"run": "f1"}, [FunctionTime("f", "f", dict(zip(names, given, strict=True)))])
    assert tuple(getattr(row.measurement, name) for name in names) == kept


def test_the_spread_of_times_is_that_of_their_quartiles():
    quartiles = {"seconds_min": 1.0, "seconds_q25": 2.0, "seconds_median": 3.0, "seconds_q75": 4.0, "rounds": 5}
    assert spread_of([5, 3, 1, 2, 4], 7) == {**quartiles, "iterations": 7}
    assert spread_of([5, 3, 1, 2, 4], 0) == {**quartiles, "iterations": 1}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("2026-03-01T12:00:00.5+02:00", "2026-03-01T10:00:00+00:00"),
        ("2026-03-01 12:00:00.5", "2026-03-01T12:00:00"),
        (1767225600999, "2026-01-01T00:00:00+00:00"),
        (1767225600999.5, "2026-01-01T00:00:00+00:00"),
        ("yesterday", "yesterday"),
        (None, "None"),
        (1e300, "1e+300"),
    ],
)
def test_a_moment_is_told_as_results_files_have_it(given, told):
    assert moment(given) == told


def test_a_moment_is_told_in_utc_wherever_it_is_read(monkeypatch):
    monkeypatch.setenv("TZ", "UTC-9")
    time.tzset()
    try:
        assert moment("2026-03-01T12:00:00+02:00") == "2026-03-01T10:00:00+00:00"
        assert moment(1767225600999) == "2026-01-01T00:00:00+00:00"
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    ("parameters", "name", "n"),
    [
        ({}, "f", None),
        ({"n": 5}, "f", 5),
        ({"n": 5, "kind": "list"}, "f(kind=list)", 5),
        ({"kind": "list", "n": 5, "by": 0.5}, "f(kind=list, by=0.5)", 5),
        ({"n": 5, "m": 6}, "f(n=5, m=6)", None),
        ({"n": 0}, "f(n=0)", None),
        ({"n": 0, "m": 6}, "f(n=0)", 6),
        ({"n": True}, "f(n=True)", None),
        ({"n": 1}, "f", 1),
        ({"n": 2**63 - 1}, "f", 2**63 - 1),
        ({"n": 2**63}, "f(n=9223372036854775808)", None),
    ],
)
def test_the_one_parameter_that_is_a_whole_number_is_the_size(parameters, name, n):
    assert sized("f", parameters) == (name, n)


def test_a_benchmark_test_is_named_after_its_function():
    assert benchmark_names("a.py::T::test_X[3-b]", "3-b", {"n": 3, "kind": "b"}) == (
        "a.py::T::test_X(kind=b)", "test_X", 3,
    )  # fmt: skip
    assert benchmark_names("a.py::test_x[b-c]", "b-c", {"one": "b", "other": "c"}) == (
        "a.py::test_x[b-c]", "test_x", 1,
    )  # fmt: skip
    assert benchmark_names("a.md::[a] b-X!", "", {}) == ("a.md::[a] b-X!", "a_b_X", 1)


def test_a_file_is_imported_once(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("a.json", "b.json"):
        Path(name).write_bytes((SAVED / "pyperf.json").read_bytes())
    assert main(["import", "a.json", "b.json", "-o", "x.csv"]) == 2
    assert "a.json and b.json hold the same run f" in capsys.readouterr().err
    assert run_name_of(b"{}") == "f44136fa355b"  # the beginning of its SHA-256


def test_pytest_benchmark_has_sizes_and_other_parameters():
    rows = rows_of(SAVED / "pytest-benchmark.json")
    assert [told(row) for row in rows] == [
        ("function:test_suite.py::test_sort", "function.test_sort.value", 100, 1, 1),
        ("function:test_suite.py::test_sort", "function.test_sort.value", 1000, 1, 1),
        ("function:test_suite.py::test_sum(kind=list)", "function.test_sum.value", 100, 1, 1),
        ("function:test_suite.py::test_sum(kind=tuple)", "function.test_sum.value", 100, 1, 1),
        ("function:test_suite.py::test_join", "function.test_join.value", 1, 1, 1),
    ]
    first = rows[0]
    assert first.measurement.seconds_median == 7.253500371007249e-07
    assert first.measurement.seconds_min == 7.112999810487963e-07
    assert first.measurement.seconds_q75 == 1.335500019195024e-06
    assert (first.measurement.rounds, first.measurement.iterations) == (1262, 20)
    assert (first.started, first.machine) == ("2026-11-29T23:23:34+00:00", "amd-epyc-2c-linux-x86-64")
    assert (first.cpu, first.cores, first.os, first.python) == ("AMD EPYC", 2, "Linux 6.18.44-fc-v657", "3.11.7")
    assert first.commit == ""


def test_each_process_of_pyperf_is_a_pass_but_the_one_that_calibrates():
    rows = rows_of(SAVED / "pyperf.json")
    assert [told(row) for row in rows] == [
        (f"function:{name}", f"function.{name}.value", 1, 1, pass_) for name in ("sort", "join") for pass_ in (1, 2, 3)
    ]
    first = rows[0]  # of 1.4744e-05, 2.1092e-05 and 1.7093e-05
    assert first.measurement.seconds_median == 1.709344921962952e-05
    assert first.measurement.seconds_min == 1.4744086914930676e-05
    assert (first.measurement.rounds, first.measurement.iterations) == (3, 1024)
    assert (first.started, first.machine) == ("2026-11-29T23:23:36", "amd-epyc-2c-linux-x86-64")
    assert (first.python, first.versions) == ("3.11.7", "pyperf=2.11.0")


def test_repetitions_of_google_benchmark_are_one_pass_and_what_fails_says_why():
    rows = rows_of(SAVED / "google-benchmark.json")
    assert [told(row) for row in rows] == [
        ("function:sort", "function.sort.value", 100, 1, 1),
        ("function:sort", "function.sort.value", 1000, 1, 1),
        ("function:broken", "function.broken.value", 1, 1, 1),
    ]
    first, _, broken = rows
    assert first.measurement.seconds_median == pytest.approx(3348.1594394235053e-9, rel=1e-12)
    assert first.measurement.seconds_min == pytest.approx(962.43970534380742e-9, rel=1e-12)
    assert (first.measurement.rounds, first.measurement.iterations) == (3, 2176)
    assert (broken.measurement.status, broken.measurement.reason) == ("failed", "no data")
    assert first.machine == "2c-l1-32k-l1-32k-l2-512k-l3-32768k"


def test_asv_has_a_row_for_each_combination_that_was_not_skipped():
    found = read_imported(SAVED / "asv.json")
    assert found.skipped == {"bench.track_size": "it does not measure time"}
    assert [(told(row), row.measurement.status) for row in found.records] == [
        (("function:bench.Sorting.time_sort(param2=list)", "function.time_sort.value", 100, 1, 1), "ok"),
        (("function:bench.Sorting.time_sort(param2=tuple)", "function.time_sort.value", 100, 1, 1), "ok"),
        (("function:bench.Sorting.time_sort(param2=list)", "function.time_sort.value", 1000, 1, 1), "ok"),
        (("function:bench.time_broken", "function.time_broken.value", 1, 1, 1), "failed"),
        (("function:bench.time_join", "function.time_join.value", 1, 1, 1), "ok"),
    ]
    first = found.records[0]
    assert (first.measurement.seconds_median, first.measurement.seconds_min) == (1.002899807645008e-05, None)
    assert (first.commit, first.started) == ("9ef448a2023f", "2026-11-29T23:26:12+00:00")
    assert (first.machine, first.python) == ("amd-epyc-2c-linux-x86-64", "")


def test_only_the_median_of_google_benchmark_is_enough(tmp_path):
    document = json.loads((SAVED / "google-benchmark.json").read_text())
    document["benchmarks"] = [row for row in document["benchmarks"] if row["run_type"] == "aggregate"]
    (tmp_path / "a.json").write_text(json.dumps(document))
    first = rows_of(tmp_path / "a.json")[0]
    assert first.measurement.seconds_median == pytest.approx(3348.1594394235053e-9, rel=1e-12)
    assert first.measurement.seconds_min == first.measurement.seconds_q75 == first.measurement.seconds_median


def test_a_compressed_file_is_read(tmp_path):
    whole = (SAVED / "pyperf.json").read_bytes()
    (tmp_path / "a.json.gz").write_bytes(gzip.compress(whole))
    assert list(map(told, rows_of(tmp_path / "a.json.gz"))) == list(map(told, rows_of(SAVED / "pyperf.json")))
    (tmp_path / "b.json.gz").write_bytes(gzip.compress(whole)[:-20])
    with pytest.raises(ValueError, match="the compressed file is damaged"):
        rows_of(tmp_path / "b.json.gz")


def test_two_files_are_compared_case_by_case(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    document = json.loads((SAVED / "pyperf.json").read_text())
    for benchmark in document["benchmarks"]:
        benchmark["runs"] = [run for run in benchmark["runs"] if "values" in run] * 4
        for place, run in enumerate(benchmark["runs"]):
            run["values"] = [1e-5 * (1 + place / 1000)] * 3
    Path("a.json").write_text(json.dumps(document))
    for run in document["benchmarks"][0]["runs"]:
        run["values"] = [3 * value for value in run["values"]]
    Path("b.json").write_text(json.dumps(document))
    for name in "ab":
        assert main(["import", f"{name}.json", "-o", f"{name}.csv"]) == 0
    assert "b.csv: 24 rows, 12 passes" in capsys.readouterr().out
    assert main(["compare", "a.csv", "b.csv", "--format", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert {row["problem"]: row["verdict"] for row in rows} == {"function:join": "same", "function:sort": "slower"}
