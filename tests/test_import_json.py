"""`gradkernels import`: pytest-benchmark's JSON as a results file, or one sentence and nothing written."""

import copy
import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer

from gradkernels import record
from gradkernels.bench import cli
from gradkernels.bench.cli.commands.import_json import import_json
from gradkernels.bench.results.importing import read_imported

INFO = {
    "schema": 1,
    "run": "0123456789ab",
    "started": "2026-03-01T12:00:00+00:00",
    "machine": "a-machine-2c-linux-x86-64",
    "cpu": "A machine",
    "threads": 1,
    "versions": "gradkernels=0.1.0 numpy=2.4.6",
    "problem": "linear",
    "quantity": "per_sample",
    "kernel": "numpy.broadcast.per_sample",
    "backend": "numpy",
    "n": 1000,
    "features": 2,
    "parameters": 3,
    "dtype": "float64",
    "layout": "C",
    "device": "cpu",
    "seed": 0,
    "error": 1e-16,
    "tolerance": 5e-15,
    "seconds_first": 0.25,
}
STATS = {"median": 2e-05, "min": 1e-05, "q1": 1.5e-05, "q3": 3e-05, "rounds": 7, "iterations": 4, "max": 1, "ops": 3.5}
SAVED = {
    "machine_info": {"system": "Linux", "release": "6.1", "python_version": "3.12.1", "cpu": {"count": 8}},
    "commit_info": {"id": "c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00", "dirty": True},
    "benchmarks": [{"fullname": "bench/test_x.py::test_k[1]", "extra_info": INFO, "stats": STATS}],
    "version": "5.3.1",
}
# Less than half of the names are ours.
FOREIGN = {"fullname": "test_y.py::test_sort", "extra_info": dict([*INFO.items()][:10]), "stats": STATS}


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """`run(*words)` is `gradkernels import ...` in an empty folder; gives exit code, output and complaint."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command("import")(import_json)
    app.callback()(lambda: None)
    monkeypatch.setitem(sys.modules, "gradkernels.bench.cli.app", SimpleNamespace(app=app))
    monkeypatch.chdir(tmp_path)

    def command(*words):
        code = cli.main(["import", *words])
        return code, *capsys.readouterr()

    return command


def save(name, saved):
    Path(name).write_text(json.dumps(saved))
    return name


def changed(path, value):
    """SAVED with the value at a dotted path replaced, or removed for `None`."""
    saved = copy.deepcopy(SAVED)
    *parents, last = (int(key) if key.isdecimal() else key for key in path.split("."))
    holder = saved
    for key in parents:
        holder = holder[key]
    holder[last] = value
    if value is None:
        del holder[last]
    return saved


def test_every_column_comes_from_its_place(run):
    save("a.json", SAVED)
    assert run("a.json", "--out", "x.csv") == (0, "x.csv: 1 row, 1 pass\n", "")
    assert Path("x.csv").read_text().splitlines()[1] == (
        "3,0123456789ab,2026-03-01T12:00:00+00:00,a-machine-2c-linux-x86-64,A machine,8,1,Linux 6.1,3.12.1,"
        "gradkernels=0.1.0 numpy=2.4.6,c0ffee00c0ff+,linear,per_sample,numpy.broadcast.per_sample,numpy,1000,2,3,"
        "float64,C,cpu,0,1,ok,,1e-16,5e-15,7,4,2e-05,1e-05,1.5e-05,3e-05,0.25,,,,1,kernel,numpy.broadcast,False"
    )
    assert len(record.read("x.csv")) == 1


def test_a_commit_without_changes_is_its_hash_alone(run):
    for info in ({"id": "c0ffee00c0ffee00", "dirty": False}, {"id": "c0ffee00c0ffee00"}):
        run(save("a.json", changed("commit_info", info)), "--out=x.csv", "--force")
        assert record.read("x.csv")[0].commit == "c0ffee00c0ff"


def test_times_may_be_whole_numbers_and_all_alike(run):
    stats = {"min": 2, "q1": 2, "median": 2, "q3": 2, "rounds": 1, "iterations": 1}
    run(save("a.json", changed("benchmarks.0.stats", stats)), "--out=x.csv")
    assert ",1,1,2.0,2.0,2.0,2.0,0.25,,,,1,kernel,numpy.broadcast,False\n" in Path("x.csv").read_text()


def test_one_file_alone_is_the_first_pass(run):
    assert [row.pass_ for row in read_imported(Path(save("a.json", SAVED))).records] == [1]


@pytest.mark.parametrize("unknown", ["unversioned", "unknown"])
def test_no_checkout_is_no_commit(run, unknown):
    run(save("a.json", changed("commit_info", {"id": unknown, "dirty": False})), "--out=x.csv")
    assert record.read("x.csv")[0].commit == ""


def test_each_file_is_a_pass(run):
    second = changed("benchmarks.0.extra_info.run", "another")
    second["benchmarks"][0]["stats"]["median"] = 2.5e-05
    code, output, _ = run(save("a.json", SAVED), save("b.json", second), "--out", "new/x.csv")
    assert (code, output) == (0, "new/x.csv: 2 rows, 2 passes\n")
    rows = record.read("new/x.csv")
    assert [(row.pass_, row.run, row.measurement.seconds_median) for row in rows] == [
        (1, "0123456789ab", 2e-05),
        (2, "another", 2.5e-05),
    ]


def test_what_has_no_proof_is_a_function_and_what_has_no_times_is_left_out_aloud(run):
    saved = {**SAVED, "benchmarks": [{**FOREIGN, "stats": None}, *SAVED["benchmarks"], FOREIGN]}
    code, _, complaint = run(save("a.json", saved), "--out=x.csv")
    assert code == 0
    assert complaint == (
        "gradkernels: a.json: skipped 1 of 3 benchmarks, such as test_y.py::test_sort: it has no times\n"
    )
    kernel, function = record.read("x.csv")
    assert (kernel.case.problem, kernel.measurement.reason) == ("linear", "")
    assert (function.case.problem, function.kernel) == ("function:test_y.py::test_sort", "function.test_sort.value")
    assert function.measurement.reason == "timed by pytest-benchmark, without a proof"


def test_what_is_no_number_does_no_harm_where_no_number_is_asked_for(run):
    saved = changed("benchmarks.0.extra_info.mine", float("nan"))
    saved["benchmarks"][0]["stats"]["ops"] = float("inf")
    saved["benchmarks"].append({**FOREIGN, "extra_info": {"loss": float("nan")}})
    assert run(save("a.json", saved), "--out=x.csv")[0] == 0
    assert len(record.read("x.csv")) == 2


def refused(result, sentence):
    """Exit code 2, one sentence, and no file but those that were there."""
    code, output, complaint = result
    assert (code, output) == (2, "")
    assert complaint.startswith("gradkernels: ")
    assert complaint.count("\n") == 1
    assert sentence in complaint
    assert not [name for name in os.listdir() if name not in ("a.json", "b.json")]


INFO_AT = "benchmarks.0.extra_info"
STATS_AT = "benchmarks.0.stats"


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        ("benchmarks", None, "a.json: 'benchmarks' is missing"),
        ("benchmarks", [], "nothing to import from a.json: it holds no benchmarks"),
        (
            "benchmarks",
            [{**FOREIGN, "stats": None}],
            "nothing to import from a.json: skipped 1 of 1 benchmark, such as ",
        ),
        ("benchmarks", [3], "a.json, a benchmark: expected an object with 'fullname'"),
        ("benchmarks", {"a": 1}, "'benchmarks' is {\"a\": 1}, expected a list"),
        ("machine_info", None, "a.json: 'machine_info' is missing"),
        ("machine_info.cpu", None, "a.json, machine_info: 'cpu' is missing"),
        ("machine_info.system", None, "a.json, machine_info: 'system' is missing"),
        ("machine_info.release", None, "a.json, machine_info: 'release' is missing"),
        ("commit_info", None, "a.json: 'commit_info' is missing"),
        ("machine_info.cpu.count", "8", "a.json, machine_info.cpu: 'count' is \"8\", expected a whole number"),
        ("machine_info.python_version", None, "a.json, machine_info: 'python_version' is missing"),
        ("commit_info.id", 7, "a.json, commit_info: 'id' is 7, expected text"),
        (INFO_AT, None, "a.json, bench/test_x.py::test_k[1]: 'extra_info' is missing"),
        (f"{INFO_AT}.schema", None, "test_k[1], extra_info: 'schema' is missing"),
        (f"{INFO_AT}.n", -1, "extra_info: 'n' is -1, expected a finite number from 0"),
        (f"{INFO_AT}.n", "many " * 9, f"extra_info: 'n' is \"{'many ' * 7}many, expected a whole number"),
        (f"{INFO_AT}.kernel", None, "test_k[1], extra_info: 'kernel' is missing"),
        (f"{INFO_AT}.n", 1000.5, "extra_info: 'n' is 1000.5, expected a whole number"),
        (f"{INFO_AT}.n", True, "extra_info: 'n' is true, expected a whole number"),
        (f"{INFO_AT}.dtype", 64, "extra_info: 'dtype' is 64, expected text"),
        (f"{INFO_AT}.schema", 99, "schema 99, but this gradkernels knows 3"),
        (
            f"{INFO_AT}.error",
            1.0,
            "a.json, bench/test_x.py::test_k[1]: 'ok' without a passed check: error 1.0, tolerance 5e-15",
        ),
        (f"{STATS_AT}", None, "test_k[1]: 'stats' is missing"),
        (f"{STATS_AT}.median", "fast", "stats: 'median' is \"fast\", expected a number"),
        (f"{STATS_AT}.median", 1.0, "min, q1, median and q3 are not in this order"),
        (f"{STATS_AT}.min", -1.0, "'min' is -1.0, expected a finite number from 0"),
        (f"{STATS_AT}.median", float("nan"), "stats: 'median' is nan, expected a finite number from 0"),
        (f"{STATS_AT}.q3", float("inf"), "stats: 'q3' is inf, expected a finite number from 0"),
        (
            "benchmarks",
            SAVED["benchmarks"] * 2,
            "gradkernels: a.json: numpy.broadcast.per_sample was timed twice on problem linear",
        ),
    ],
)
def test_a_damaged_file_is_one_sentence(run, path, value, sentence):
    refused(run(save("a.json", changed(path, value)), "--out=x.csv"), sentence)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "a.json, line 1: not JSON"),
        (b'{"benchmarks": [\n', "a.json, line 2: not JSON"),
        (b"\xff\xfe", "a.json: not UTF-8 text at byte 0"),
        (b"[1]", "a.json: no file of asv, google-benchmark, pyperf, pytest-benchmark by what it holds; say which with"),
        (b"[" * 100_000, "this is no file of a benchmark tool"),
        (json.dumps(SAVED).replace("2e-05", "1e999").encode(), "'median' is inf, expected a finite number"),
        (json.dumps(SAVED).replace("2e-05", "9" * 5000).encode(), "a.json: "),
    ],
)
def test_what_is_no_json_is_one_sentence(run, content, sentence):
    Path("a.json").write_bytes(content)
    refused(run("a.json", "--out=x.csv"), sentence)


def test_a_missing_file_is_one_sentence_even_after_a_good_one(run):
    refused(run(save("a.json", SAVED), "b.json", "--out=x.csv"), "b.json: cannot be read (No such file or directory)")


def test_one_run_is_one_pass_only(run):
    save("a.json", SAVED)
    save("b.json", SAVED)
    refused(run("a.json", "b.json", "--out=x.csv"), "a.json and b.json hold the same run 0123456789ab")


def test_the_output_is_asked_for(run):
    refused(run(save("a.json", SAVED)), "--out")


def test_the_output_is_none_of_the_inputs(run):
    save("a.json", SAVED)
    before = Path("a.json").read_bytes()
    refused(run("a.json", "--out=./a.json", "--force"), "a.json is one of the files to import")
    assert Path("a.json").read_bytes() == before


def test_a_folder_is_no_output(run, tmp_path):
    refused(run(save("a.json", SAVED), f"--out={tmp_path}", "--force"), "is a folder; name a file in it")


def test_a_device_is_no_output(run, tmp_path_factory):
    null = tmp_path_factory.mktemp("devices") / "null"
    null.symlink_to("/dev/null")
    refused(run(save("a.json", SAVED), f"--out={null}", "--force"), "null is no regular file; name another")
    assert null.is_char_device()


def test_an_existing_output_stays_without_force_and_through_failures(run):
    save("a.json", SAVED)
    Path("b.json").write_text("precious")
    refused(run("a.json", "--out=b.json"), "b.json is there already; name another file or replace it with --force")
    save("a.json", changed("benchmarks", None))
    refused(run("a.json", "--out=b.json", "--force"), "'benchmarks' is missing")
    assert Path("b.json").read_text() == "precious"


def test_force_replaces_the_output(run):
    Path("x.csv").write_text("old")
    assert run(save("a.json", SAVED), "--out=x.csv", "--force")[0] == 0
    assert len(record.read("x.csv")) == 1


def test_a_write_that_fails_half_way_leaves_what_was_there(run, monkeypatch):
    def full(self, content):
        with self.open("wb") as file:
            file.write(content[: len(content) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    Path("b.json").write_text("precious")
    refused(
        run(save("a.json", SAVED), "--out=b.json", "--force"), "b.json: cannot be written (No space left on device)"
    )
    assert Path("b.json").read_text() == "precious"
