"""The command `list`: what it shows of every kernel, and the reason it gives for every hole."""

import csv
import io
import json

import pytest
import typer

import gradkernels as gk
from gradkernels.bench.cli.commands.list_kernels import list_kernels
from gradkernels.problems import Problem
from gradkernels.quantity import QUANTITIES

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
app.command()(list_kernels)
COMPUTES_ONLY = "torch.autograd computes gradient only; without per-sample gradients nothing else follows"
FIVE = ["gradient", "per_sample", "norms", "moments", "clipped_sum"]
GENERAL = COMPUTES_ONLY.removeprefix("torch.autograd ")


class OtherProblem(Problem):
    """A problem that is no regression; it is listed, never computed."""

    name = "other"
    loss = shape = draw = draw_theta = validate = None


def other() -> Problem:
    return OtherProblem()


@pytest.fixture
def listed(capsys):
    """A function that runs the command and returns what it printed."""

    def run(*arguments):
        app(list(arguments), standalone_mode=False)
        return capsys.readouterr().out

    return run


@pytest.fixture
def rows(listed):
    """A function that runs the command for one problem and returns its CSV rows by way and quantity."""

    def run(*arguments):
        one = () if "--problem" in arguments else ("--problem", "linear")
        table = csv.DictReader(io.StringIO(listed("--format", "csv", *one, *arguments)))
        return {(row["way"], row["quantity"]): row for row in table}

    return run


def test_every_kernel_of_the_registry_is_listed_once(rows):
    of_losses = [kernel.key for kernel in gk.kernels() if not kernel.quantity.of_outputs]
    assert sorted(row["kernel"] for row in rows().values() if row["kernel"]) == sorted(of_losses)


def test_every_way_has_an_entry_for_every_quantity(rows):
    ways = {way for way, _ in rows()}
    of_losses = [name for name, one in QUANTITIES.items() if not one.of_outputs]
    assert set(rows()) == {(way, quantity) for way in ways for quantity in of_losses}
    assert "numpy.broadcast" in ways


def test_the_table_marks_by_hand_composed_and_holes(listed):
    chosen = [argument for way in ("numpy.broadcast", "torch.autograd", "torch.vmap") for argument in ("--kernel", way)]
    shown = [
        line.split()
        for line in listed("--problem", "linear", "--wide", *chosen, "--quantity", ",".join(FIVE)).splitlines()
        if line.strip()
    ]
    lines = {words[0]: words[1:] for words in reversed(shown)}
    assert lines["way"] == [*FIVE, "out=", "settings"]
    assert lines["numpy.broadcast"] == ["+", "x", "+", "+", "+", "per_sample"]
    assert lines["torch.autograd"] == ["x", "(1)", "(1)", "(1)", "(1)"]
    assert lines["torch.vmap"] == ["+", "x", "+", "+", "+", "per_sample", "chunk=16384"]
    assert lines["(1)"] == GENERAL.split()
    assert shown[-1] == ["torch.autograd"]


def test_facts_of_one_kernel(rows):
    assert rows()["torch.vmap", "per_sample"] == {
        "problem": "linear", "way": "torch.vmap", "quantity": "per_sample", "kernel": "torch.vmap.per_sample",
        "how": "by hand", "out": "True", "settings": "chunk=16384", "reason": "",
    }  # fmt: skip
    assert rows()["torch.vmap", "norms"]["how"] == "composed"
    assert rows()["torch.vmap", "norms"]["out"] == "False"
    assert rows()["torch.autograd", "norms"]["reason"] == COMPUTES_ONLY


def test_a_missing_library_is_the_reason(rows, listed, monkeypatch):
    monkeypatch.setattr("gradkernels.backend.libraries._found", lambda name: name != "jax")
    assert rows()["jax.vmap", "norms"]["reason"] == "jax is not installed: pip install jax"
    assert "1      jax is not installed: pip install jax\n       jax.vmap\n" in listed(
        "--kernel", "jax.vmap", "--kernel", "numpy.broadcast"
    )
    assert rows()["numpy.loop", "norms"]["reason"] == ""


def test_a_device_that_a_library_does_not_have_is_the_reason(rows):
    assert rows("--device", "cuda")["numpy.loop", "norms"]["reason"] == "numpy computes on cpu here, not on cuda"


def test_a_problem_that_a_way_is_not_written_for_is_the_reason(rows):
    own = rows("--problem", f"{__name__}:other")
    assert own["numpy.loop", "norms"]["reason"] == "numpy.loop is written for a Regression, not for OtherProblem"
    assert own["torch.vmap", "norms"]["reason"] == ""
    assert {row["problem"] for row in own.values()} == {"other"}


def test_several_problems_are_listed_one_after_the_other(listed):
    text = listed("--problem", f"linear,{__name__}:other", "--wide")
    assert text.index("linear") < text.index("other")
    assert text.count("\ntorch.vmap  ") == 2


def test_globs_and_quantities_choose(rows):
    assert set(rows("--kernel", "numpy.[l-m]*", "--quantity", "norms")) == {
        ("numpy.loop", "norms"), ("numpy.matmul", "norms"),
    }  # fmt: skip
    assert set(rows("--kernel", "torch.vmap.norms", "--kernel", "jax.vmap.moments")) == {
        ("torch.vmap", "norms"), ("jax.vmap", "moments"),
    }  # fmt: skip


def test_a_variant_is_listed_with_its_settings(rows):
    variant = rows("--kernel", "torch.vmap[chunk=512]")["torch.vmap[chunk=512]", "norms"]
    assert (variant["kernel"], variant["settings"]) == ("torch.vmap+[chunk=512].norms", "chunk=512")


def test_json_and_csv_tell_the_same_of_every_problem(listed):
    entries = json.loads(listed("--format", "json"))
    shown = [{name: str(value) for name, value in entry.items()} for entry in entries]
    assert shown == list(csv.DictReader(io.StringIO(listed("--format", "csv"))))
    assert list(dict.fromkeys(entry["problem"] for entry in shown)) == [
        "linear", "logistic", "poisson", "huber", "softmax",
    ]  # fmt: skip


def test_markdown_is_a_table_and_its_legend(listed):
    chosen = ("--problem", "linear", "--kernel", "torch.autograd", "--quantity", "gradient,norms")
    lines = listed("--format", "markdown", *chosen).splitlines()
    assert lines == [
        "**linear**",
        "",
        "| way | gradient | norms | out= | settings |",
        "| --- | :-: | :-: | --- | --- |",
        "| torch.autograd | x | (1) |  |  |",
        "",
        "- `x` written by hand",
        "- `out=` what is written straight into the caller's memory",
        f"- `(1)` {GENERAL}: torch.autograd",
    ]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--problem", "lineer"], "there is no problem 'lineer'; did you mean linear?"),
        (["--problem", ","], "',' names nothing; write names separated by commas"),
        (["--quantity", "norm"], "there is no quantity 'norm'; did you mean norms?"),
        (["--kernel", "nunpy.*"], r"there is no kernel 'nunpy.\*'; did you mean numpy"),
        (["--kernel", "torch.vmap[chunks=2]"], r"no option of torch.vmap\+ 'chunks'; did you mean chunk\?"),
        (["--kernel", "numpy.loop[chunk=2]"], r"no option of numpy.loop\+ 'chunk'; there are none"),
        (["--kernel", "numpy.loop.norms", "--quantity", "moments"], "norms has nothing for --quantity moments"),
        (["--dtype", "float16"], "there is no dtype 'float16'; did you mean float64 or float32?"),
    ],
)  # fmt: skip
def test_what_is_not_there_is_refused_with_what_is(arguments, says):
    with pytest.raises(ValueError, match=says):
        app(arguments, standalone_mode=False)


def test_the_whole_command_line_lists_too(capsys):
    from gradkernels.bench.cli import main

    assert main(["list", "--kernel", "numpy.loop", "--format", "csv"]) == 0
    assert capsys.readouterr().out.startswith("problem,way,quantity,kernel,")
    assert main(["list", "--kernel", "nothing"]) == 2
    assert capsys.readouterr().err.startswith("gradkernels: there is no kernel 'nothing'; ")
