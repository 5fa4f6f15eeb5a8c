"""`--kernel` means the same kernels in every command."""

import csv
import importlib.util
import io
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from measured import STEADY, passes

from gradkernels import record
from gradkernels.bench.ab.client import here
from gradkernels.bench.ab.kernels import choose_kernels
from gradkernels.bench.ab.selftest import Trial
from gradkernels.bench.cli import main
from gradkernels.bench.pytest_plugin import options
from gradkernels.record import HEADER

BLOCKED, BROADCAST, LOOP, VMAP = (
    *("numpy.blocked.norms", "numpy.broadcast+.norms"),
    *("numpy.loop+.norms", "torch.vmap+.norms"),
)
MEANT = {
    "numpy": {BLOCKED, BROADCAST, LOOP},
    "numpy.*": {BLOCKED, BROADCAST, LOOP},
    "numpy.[bm]*": {BLOCKED, BROADCAST},
    "numpy.loop,torch.vmap": {LOOP, VMAP},
}
SUITE = Path(__file__).parents[1] / "bench" / "test_regression.py"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A folder of its own, with results of the four kernels and of one more."""
    monkeypatch.chdir(tmp_path)
    kernels = (BLOCKED, BROADCAST, LOOP, VMAP, "jax.vmap+.norms")
    for name, run in (("A.csv", "run-a"), ("B.csv", "run-b")):
        Path(name).write_text(HEADER)
        record.append(Path(name), [row for kernel in kernels for row in passes(STEADY, kernel=kernel, run=run)])
    return tmp_path


def run(pattern, capsys, monkeypatch):
    found = []

    def planned(plan):
        found.extend(plan.kernels)
        raise ValueError("enough")

    monkeypatch.setattr("gradkernels.bench.cli.run_plan.require_sound", planned)
    code = main(["run", "--quantity", "norms", "--kernel", pattern])
    return code if "there is no kernel" in capsys.readouterr().err else set(found)


def listed(pattern, capsys, monkeypatch):
    given = ("--problem", "linear", "--quantity", "norms", "--format", "csv")
    if code := main(["list", *given, "--kernel", pattern]):
        return code
    return {row["kernel"] for row in csv.DictReader(io.StringIO(capsys.readouterr().out))} - {""}


def compared(pattern, capsys, monkeypatch):
    if code := main(["compare", "A.csv", "B.csv", "--format", "json", "--kernel", pattern]):
        return code
    return {row["kernel"] for row in json.loads(capsys.readouterr().out)["rows"]}


def ranked(pattern, capsys, monkeypatch):
    if code := main(["fastest", "A.csv", "--format", "json", "--kernel", pattern]):
        return code
    return {row["kernel"] for row in json.loads(capsys.readouterr().out)}


def known(pattern, capsys, monkeypatch):
    """What `fastest` says without files, from a choice that was saved from them."""
    monkeypatch.setenv("GRADKERNELS_WISDOM", str(Path.cwd() / "wisdom.json"))
    assert main(["fastest", "A.csv", "--save", "--force"]) == 0
    capsys.readouterr()
    if code := main(["fastest", "--format", "json", "--kernel", pattern]):
        return code
    return {row["kernel"] for row in json.loads(capsys.readouterr().out)}


def trialled(pattern, capsys, monkeypatch):
    """What the selftest of `doctor` measures."""
    trial = Trial("", "desk", "", 10, 0, 8, "same", 1.0, 0.99, 1.01, 1.0, 0.01)
    found = []

    def run_trials(count, kernels, sizes, skip):
        found.extend(kernels)
        return iter([trial])

    monkeypatch.setattr("gradkernels.bench.ab.selftest.run_trials", run_trials)
    return main(["doctor", "--selftest", "1", "--kernel", pattern]) or {key for key in found if "norms" in key}


def timed_by_pytest(pattern, capsys, monkeypatch):
    try:
        given = {"gradkernels_kernels": options._kernels(pattern), "keyword": ""}
    except ValueError as error:
        print(error)
        return 2
    spec = importlib.util.spec_from_file_location("suite_of_kernels", SUITE)
    suite = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(suite)
    return {key for key in suite.keys("linear", "norms", SimpleNamespace(getoption=given.get)) if "@out" not in key}


COMMANDS = {
    "run": run,
    "list": listed,
    "compare": compared,
    "fastest": ranked,
    "fastest, saved": known,
    "pytest": timed_by_pytest,
}


@pytest.mark.parametrize("pattern", MEANT)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_glob_means_these_kernels(command, pattern, capsys, monkeypatch):
    assert COMMANDS[command](pattern, capsys, monkeypatch) == MEANT[pattern]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_glob_that_means_nothing_is_refused(command, capsys, monkeypatch):
    assert COMMANDS[command]("numpy.lop", capsys, monkeypatch) == 2


@pytest.mark.parametrize("command", ["run", "list", "compare", "fastest", "estimate", "doctor"])
def test_near_names_are_listed(command, capsys):
    files = {"compare": ["A.csv", "B.csv"], "fastest": ["A.csv"], "doctor": ["--selftest", "1"]}.get(command, [])
    assert main([command, *files, "--kernel", "numpy.lop"]) == 2
    assert "gradkernels: there is no kernel 'numpy.lop'; did you mean numpy.loop" in capsys.readouterr().err


@pytest.mark.parametrize("pattern", MEANT)
def test_ab_compares_these_kernels(pattern):
    assert set(choose_kernels((here(), here()), ["norms"], [pattern])) == MEANT[pattern]


def test_ab_lists_near_names():
    with pytest.raises(ValueError, match=r"^there is no kernel 'numpy\.lop'; did you mean numpy\.loop"):
        choose_kernels((here(), here()), ["norms"], ["numpy.lop"])


@pytest.mark.parametrize(
    ("pattern", "kernel"),
    [
        ("numpy", "numpy.broadcast.per_sample"),
        ("numpy.*", "numpy.broadcast.per_sample"),
        ("numpy.[bm]*", "numpy.broadcast.per_sample"),
        ("numpy.loop,torch.vmap", "numpy.loop.per_sample"),
    ],
)
def test_estimate_takes_the_first_of_these_kernels(pattern, kernel):
    assert main(["estimate", "--kernel", pattern, "--batch-sizes", "1", "--draws", "30", "--out", "e.csv"]) == 0
    with open("e.csv", newline="") as file:
        assert {row["kernel"] for row in csv.DictReader(file)} == {kernel}


@pytest.mark.parametrize(
    ("pattern", "kernels"),
    [
        ("numpy.*.norms", {BLOCKED, BROADCAST, LOOP}),
        ("numpy.[bm]*.norms,torch.vmap.norms", {BLOCKED, BROADCAST, VMAP}),
    ],
)
def test_the_selftest_takes_quantities_that_globs_name(pattern, kernels, capsys, monkeypatch):
    assert trialled(pattern, capsys, monkeypatch) == kernels
