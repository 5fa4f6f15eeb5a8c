"""The command `audit`: what it audits, what it prints and writes, and its exit codes."""

import json

import pytest

from gradkernels.bench.cli import main

SCRIPT = """
import torch
import gradkernels as gk
from torch import nn
from torch.func import functional_call, grad, vmap

torch.manual_seed(0)
model, loss = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)), nn.functional.cross_entropy

def problem():
    return gk.ModuleProblem(model, loss, example=(torch.randn(5, 3), torch.tensor([0, 1, 1, 0, 1])))

def without_data():
    return gk.ModuleProblem(model, loss)

def broken():
    return gk.ModuleProblem(model, loss, example=(torch.randn(5, 2), torch.tensor([0, 1, 1, 0, 1])))

def made(problem):
    def one(theta, x, y):
        return problem.loss_fn(functional_call(problem.model, theta, (x[None],)), y[None])
    return lambda x, y: vmap(grad(one), (None, 0, 0))(dict(problem.model.named_parameters()), x, y)

def rows(x, y):
    return made(problem())(x, y)

def means(x, y):
    return {name: part / max(1, len(x)) for name, part in rows(x, y).items()}

def raising(x, y):
    raise RuntimeError("no rows today")

def leaving(x, y):
    raise SystemExit(0)

def talking(x, y):
    print("so many samples:", len(x))
    return rows(x, y)

def by_hand(theta, x, y):
    import numpy as np
    off = 2 * (theta[0] + theta[1] * x - y)
    return np.column_stack([off, off * x])

def refuses(problem):
    raise OSError("no set-up")

number = 3
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("audits")
    (made / "mine.py").write_text(SCRIPT)
    return made


@pytest.fixture
def told(folder, monkeypatch, capsys):
    """A function that runs the command in the folder and returns its code, output and complaint."""
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))

    def run(*words):
        code = main(["audit", *words])
        return code, *capsys.readouterr()

    return run


@pytest.mark.parametrize("function", ["rows", "made"])
def test_a_function_of_a_file_is_audited_on_the_example(told, function):
    code, out, complaint = told(f"mine.py:{function}", "--problem", "mine.py:problem")
    assert (code, complaint) == (0, "")
    assert out.startswith(f"mine.py:{function} on module:Sequential")
    assert "n = 5, 4 parameters (26 entries), float32" in " ".join(out.split())
    assert max(map(len, out.splitlines())) <= 80
    assert out.endswith("no wrong row\n")


def test_a_wrong_row_is_code_1_with_its_parameter_and_sample(told):
    words = "mine.py:means", "--problem", "mine.py:problem", "--samples", "3", "--dtype", "float64"
    code, out, _ = told(*words)
    assert code == 1
    assert "wrong in 'batch' at parameter 0.weight, sample 0" in out
    code, out, _ = told(*words, "--format", "json")
    assert code == 1
    assert json.loads(out)["first_wrong"] == {"trial": "batch", "parameter": "0.weight", "sample": 0}
    code, out, _ = told("mine.py:raising", "--problem", "mine.py:problem")
    assert code == 1
    assert "no rows of the batch: RuntimeError: no rows today" in out


def test_a_function_that_ends_the_process_is_not_taken_for_one_without_a_wrong_row(told):
    code, out, _ = told("mine.py:leaving", "--problem", "mine.py:problem")
    assert code == 1
    assert "no rows of the batch: RuntimeError: SystemExit: 0" in out


def test_what_a_function_prints_is_no_part_of_the_report(told):
    code, out, complaint = told("mine.py:talking", "--problem", "mine.py:problem", "--format", "json")
    assert code == 0
    assert json.loads(out)["ok"]
    assert "so many samples: 5" in complaint


def test_a_function_with_parameters_is_audited_on_a_regression(told):
    code, out, _ = told("mine.py:by_hand", "--seed", "3", "--samples", "9")
    assert code == 0
    assert "on linear, n = 9" in out


@pytest.mark.parametrize(
    ("name", "begins"), [("a.html", "<!doctype html>"), ("a.json", "{"), ("a.txt", "mine.py:rows")]
)
def test_a_report_is_written_and_replaced_only_when_asked(told, folder, name, begins):
    words = "mine.py:rows", "--problem", "mine.py:problem", "--dtype", "float64", "--out", name
    code, out, _ = told(*words)
    assert code == 0
    assert out.endswith(f"written: {name}\n")
    assert (folder / name).read_text().startswith(begins)
    code, _, complaint = told(*words)
    assert code == 2
    assert "is there already" in complaint
    assert told(*words, "--force")[0] == 0


PROBLEM = ("--problem", "mine.py:problem")
REFUSED = {
    "nothing": ((), "name a function, as in rows.py:rows, or a library by --tool"),
    "both": (("mine.py:rows", "--tool", "vmap", *PROBLEM), "one of both"),
    "tool": (("--tool", "opacu", *PROBLEM), "no tool 'opacu'; did you mean opacus"),
    "no model": (("--tool", "vmap"), "linear is none, give a ModuleProblem"),
    "no function": (("mine.py", *PROBLEM), "names no function; write file.py:name"),
    "name": (("mine.py:row", *PROBLEM), "mine.py: there is no name 'row'; did you mean rows"),
    "number": (("mine.py:number", *PROBLEM), "is an object of class int, and no function f(x, y)"),
    "set-up": (("mine.py:refuses", *PROBLEM), "the call with the problem raised OSError"),
    "file": (("none.py:rows", *PROBLEM), "none.py is no file"),
    "module": (("no_such_module:rows", *PROBLEM), "the import of no_such_module raised ModuleNotFoundError"),
    "no data": (("mine.py:rows", "--problem", "mine.py:without_data"), "has no data"),
    "no theta": (("mine.py:rows",), "linear has no parameters of its own; write a function f(theta, x, y)"),
    "model": (("mine.py:rows", "--problem", "mine.py:broken"), "mat1 and mat2 shapes cannot be multiplied"),
    "dtype": (("mine.py:rows", *PROBLEM, "--dtype", "float99"), "no dtype 'float99'"),
    "suffix": (
        ("mine.py:rows", *PROBLEM, "--out", "a.png"),
        "--out a.png: a report ends in .html, .htm, .json, .txt; name a file that does",
    ),
    "format": (("mine.py:rows", *PROBLEM, "--format", "csv"), "this command prints table, json"),
    "samples": (("mine.py:rows", *PROBLEM, "--samples", "0"), "--samples 0"),
}


@pytest.mark.parametrize("why", REFUSED)
def test_bad_input_is_one_sentence_and_code_2(told, why):
    words, says = REFUSED[why]
    code, out, complaint = told(*words)
    assert (code, out) == (2, "")
    assert says in complaint
    assert complaint.count("\n") == 1
