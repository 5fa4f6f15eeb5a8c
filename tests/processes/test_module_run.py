"""`gradkernels run` on a module: its defaults, its rows, and what it refuses before anything is measured."""

import json
import os
import signal
import time
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest
import torch
from models import CROSS_ENTROPY, mlp
from torch import nn

import gradkernels as gk
from gradkernels.bench.cli import main, run_plan
from gradkernels.bench.cli.parse import chosen_kernels
from gradkernels.bench.cli.run_plan import own_dtype
from gradkernels.bench.run.plan import Plan
from gradkernels.bench.run.ranking import rankings, weighed
from gradkernels.bench.run.recalled import known
from gradkernels.bench.timing.traffic import traffic
from gradkernels.coordinates import ALL_SIZES, Coordinates
from gradkernels.dispatch.wisdom import MeasuredPoint, WisdomEntry
from gradkernels.record import read


def factory(model=None, **options):
    torch.manual_seed(0)
    return gk.ModuleProblem(model or mlp(), CROSS_ENTROPY, example=(torch.randn(6, 4), torch.arange(6) % 3), **options)


def small():
    return factory()


def mixing():
    return factory(nn.Sequential(nn.Linear(4, 3), nn.Softmax(0)))


def drawing():
    return factory(nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5)), randomness="different")


def bare():
    return gk.ModuleProblem(mlp(), CROSS_ENTROPY)


def raising():
    raise RuntimeError("no weights here\nand a second line")


def leaving():
    raise SystemExit(3)


def giving_none():
    return None


def fed(x, y):
    return gk.ModuleProblem(mlp(), CROSS_ENTROPY, example=(x, y))


def empty():
    return fed(torch.randn(0, 4), torch.arange(0))


def uneven():
    return fed(torch.randn(8, 4), torch.arange(7) % 3)


def too_wide():
    return fed(torch.randn(6, 5), torch.arange(6) % 3)


def wrong_targets():
    model = nn.Sequential(nn.Linear(4, 1), nn.Sigmoid())
    return gk.ModuleProblem(model, nn.BCELoss(), example=(torch.randn(6, 4), torch.ones(6)))


def training():
    return factory(nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)))


def hanging():
    time.sleep(3600)


def ending():
    os._exit(0)


def crashing():
    os.kill(os.getpid(), signal.SIGSEGV)


class Doing(nn.Module):
    """Does something before it computes."""

    def __init__(self, do):
        super().__init__()
        self.linear, self.do = nn.Linear(4, 3), do

    def forward(self, x):
        self.do()
        return self.linear(x)


def hanging_model():
    return factory(Doing(hanging))


def ending_model():
    return factory(Doing(ending))


def greedy_model():
    return factory(Doing(lambda: torch.ones(10**10)))


class Returning(nn.Module):
    """Its output is no tensor."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, x):
        return [self.linear(x)]


def listing():
    return factory(Returning())


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def tried_here(monkeypatch):
    """Problems are tried in this process: what is said of them is the same, and another takes two seconds to begin."""

    def call(function, given, *_):
        assert function == f"{run_plan.__name__}:refusal"
        return run_plan.refusal(**json.loads(json.dumps(given)))

    monkeypatch.setattr(run_plan, "call_in_fresh_process", call)


def arguments(name, *more):
    return ["run", "--problem", f"{__name__}:{name}", "--passes", "1", "--budget", "1s", "--out", "x.csv", *more]


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Rows of a run on a module, for which one of the kernels has no closed form, and what was printed."""
    path = tmp_path_factory.mktemp("measured") / "x.csv"
    ways = [option for way in ("vmap", "loop", "autograd", "closed") for option in ("--kernel", f"torch.{way}")]
    options = ["--sizes", "9", "--budget", "5s", "--calls", "50", "--out", str(path)]
    with redirect_stdout(StringIO()) as printed:
        assert main([*arguments("small"), *options, *ways]) == 0
    return read(path), printed.getvalue()


def test_a_module_is_measured_in_its_own_dtype(measured):
    rows, printed = measured
    mine = [row for row in rows if row.kernel.startswith(("torch.vmap", "torch.loop", "torch.autograd"))]
    assert {row.case.problem for row in mine} == {small().name}
    assert {(row.case.dtype, row.parameters, row.case.features, row.measurement.status) for row in mine} == {
        ("float32", 43, 4, "ok")
    }
    assert {row.case.n for row in mine} == {9}
    assert {row.kernel for row in mine} == {
        "torch.autograd.gradient", "torch.loop+.gradient", "torch.vmap+.gradient", "torch.loop.per_sample",
        "torch.vmap.per_sample", "torch.loop.per_sample@out", "torch.vmap.per_sample@out",
    }  # fmt: skip
    of_rows = next(row for row in mine if row.kernel == "torch.vmap.per_sample")
    # theta, and nine samples of four features and an int64 class, are read; nine rows are written.
    assert of_rows.measurement.least_bytes == 43 * 4 + 9 * (4 * 4 + 8) + 9 * 43 * 4
    assert "times are those of one of 50 calls" in printed


def test_each_sample_its_own_draw_is_measured_where_they_draw_the_same():
    assert main([*arguments("drawing"), "--sizes", "3", "--quantity", "norms", "--kernel", "torch.vmap"]) == 0
    rows = [row for row in read("x.csv") if row.kernel == "torch.vmap+.norms"]
    assert [(row.measurement.status, row.case.problem) for row in rows] == [("ok", drawing().name)]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("hanging", "it took longer than --timeout 2 s"),
        ("ending", "the process ended with code 0 before its work was done"),
        ("crashing", "the process was ended by SIGSEGV"),
        ("hanging_model", "it took longer than --timeout 2 s"),
        ("ending_model", "the process ended with code 0 before its work was done"),
    ],
)
def test_a_problem_that_hangs_or_ends_its_process_is_told_and_the_command_lives(name, says, capsys):
    limits = ["--timeout", "2s" if "hanging" in name else "60s"]
    assert main([*arguments(name), *limits]) == 2
    error = capsys.readouterr().err
    assert error == f"gradkernels: problem '{__name__}:{name}' was tried in a process of its own: {says}\n"
    assert not list(Path.cwd().iterdir())


def test_a_model_that_takes_more_memory_than_it_may_is_told_with_the_limit(capsys):
    assert main([*arguments("greedy_model"), "--max-bytes", "3GB"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("gradkernels: the model or its loss_fn fails on x (4, 4)")
    assert "can't allocate memory" in error
    assert error.endswith(" (--max-bytes 3000000000)\n")
    assert error.count("\n") == 1


@pytest.mark.usefixtures("tried_here")
def test_sizes_and_dtype_have_defaults_of_their_own(monkeypatch):
    plans = []

    def spy(plan, *_):
        plans.append(plan)
        raise ValueError("enough")

    monkeypatch.setattr("gradkernels.bench.cli.commands.run.open_session", spy)
    assert main(arguments("small")) == 2
    assert main([*arguments("small"), "--dtype", "float64"]) == 2
    assert [(plan.sizes, plan.dtype) for plan in plans] == [((10, 100, 1000), "float32"), ((10, 100, 1000), "float64")]
    assert not any(key.startswith(("numpy.", "jax.", "torch.closed", "torch.compiled")) for key in plans[0].kernels)
    assert own_dtype(factory(mlp().double())) == "float64"
    assert own_dtype(factory(mlp().bfloat16())) == "float32"


@pytest.mark.parametrize(
    ("name", "more", "says"),
    [
        ("mixing", (), "gradkernels: the gradient of the mean loss of a batch is not the mean of the gradients of"),
        ("bare", (), "has no data to draw from"),
        ("small", ("--data", "notebook"), "--data is for regressions; a module has its data in ModuleProblem"),
        ("small", ("--features", "3"), "--features is for regressions"),
        ("small", ("--no-intercept",), "--no-intercept is for regressions"),
        (
            "small",
            ("--dtype", "bfloat16"),
            "numpy has no bfloat16; kernels are proven and timed in float64 and float32",
        ),
        ("small", ("--calls", "0"), "--calls"),
        ("nothing", (), "has no attribute 'nothing'"),
        ("raising", (), ":raising': the call raised RuntimeError: no weights here; the function is called without"),
        ("leaving", (), ":leaving': the call raised SystemExit: 3; the function is called without arguments and must"),
        ("giving_none", (), ":giving_none' gave a NoneType, not a Problem; return one, for instance gk.ModuleProblem("),
        ("fed", (), ":fed': the call raised TypeError: fed() missing 2 required positional arguments"),
        ("empty", (), "raised ValueError: example: x (0, 4), y (0,) have no samples; give at least one to draw from"),
        ("uneven", (), "example: x (8, 4), y (7,): the first axis is the samples, and must be as long for all of them"),
        ("too_wide", (), "the model or its loss_fn fails on x (4, 5), y (4,): RuntimeError: mat1 and mat2"),
        ("wrong_targets", (), "the model or its loss_fn fails on x (4, 4), y (4,): ValueError: Using a target size"),
        (
            "listing",
            (),
            "loss_fn is CrossEntropyLoss, which takes a tensor, but the model gives a list; pass a function",
        ),
        ("training", (), "1 (BatchNorm1d) is in training mode and normalises by the whole batch; a per-sample"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_sentence(name, more, says, request, capsys):
    if name not in ("mixing", "leaving"):  # which are refused from a process of their own
        request.getfixturevalue("tried_here")
    assert main([*arguments(name), *more]) == 2
    said = capsys.readouterr().err
    assert says in said
    assert said.startswith("gradkernels: ")
    assert said.count("\n") == 1


def test_a_module_that_cannot_be_imported_is_refused_in_one_sentence(tmp_path, capsys):
    (tmp_path / "leaves_at_import.py").write_text("raise SystemExit(3)")
    assert main(["run", "--problem", "leaves_at_import:factory"]) == 2
    said = "the import of leaves_at_import raised SystemExit: 3; name a module that can be imported"
    assert said in capsys.readouterr().err


def test_estimate_is_for_regressions(capsys):
    assert main(["estimate", "--problem", f"{__name__}:small"]) == 2
    assert "estimate is for regressions on a table of numbers, not for module:Sequential:" in capsys.readouterr().err


def test_modules_and_regressions_have_kernels_of_their_own():
    of_module = {kernel.way for kernel in chosen_kernels([], ["per_sample"], small())}
    of_line = {kernel.way for kernel in chosen_kernels([], ["per_sample"], gk.LinearRegression())}
    assert {"torch.loop", "torch.vmap"} <= of_module & of_line
    assert "numpy.broadcast" in of_line - of_module
    assert "torch.hooks" in of_module - of_line
    (named,) = chosen_kernels(["torch.closed"], ["per_sample"], small())  # asked for alone: a row says why it cannot
    assert named.key == "torch.closed.per_sample"


def test_a_plan_has_the_model_in_its_dtype():
    plan = Plan(f"{__name__}:small", ("torch.loop.per_sample",), (5,), dtype="float64")
    assert plan.subject.model[0].weight.dtype == torch.float64
    (case,) = plan.cases
    theta, x, y = plan.inputs(case)
    assert (theta["0.weight"].dtype, x.dtype, y.dtype) == ("float64", "float64", "int64")
    assert (case.features, case.parameters) == (4, 43)


@pytest.mark.parametrize(
    ("quantity", "written"), [("gradient", 43), ("per_sample", 5 * 43), ("norms", 5), ("moments", 86)]
)
def test_the_least_traffic_of_a_module(quantity, written):
    moved = traffic(gk.Case(small(), quantity, 5, "float32"))
    assert moved == (43 * 4 + 5 * (4 * 4 + 8), 4 * written)


def point(kernel, n, seconds, first):
    return {kernel: (MeasuredPoint(n, seconds, first, None),)}


def test_few_calls_weigh_the_first_in_the_ranking():
    curves = {**point("torch.loop.per_sample", 5, 2.0, 1.0), **point("torch.vmap.per_sample", 5, 1.0, 100.0)}
    case = Coordinates(small().name, "per_sample", ALL_SIZES, 4, "float32", "C", "cpu", 1)
    table = (WisdomEntry("here", case, curves),)
    for calls, winner, seconds in ((None, "vmap", 1.0), (10, "loop", 2.1), (1000, "vmap", 1.1)):
        (ranking,) = known(table, calls)
        assert ranking.kernels[0].kernel == f"torch.{winner}.per_sample"
        assert ranking.kernels[0].seconds == pytest.approx(seconds)


def test_only_rows_with_times_are_weighed(measured):
    rows, _ = measured
    assert weighed(rows, None) == rows
    for plain, heavy in zip(rows, weighed(rows, 10), strict=True):
        if plain.measurement.seconds_first:
            assert heavy.measurement.seconds_median == pytest.approx(
                plain.measurement.seconds_median + plain.measurement.seconds_first / 10
            )
        else:
            assert heavy == plain
    closed = {row.kernel for row in rows if row.kernel.startswith("torch.closed")}
    ranked = {one.kernel for ranking in rankings(weighed(rows, 10)) for one in ranking.kernels}
    assert closed
    assert not closed & ranked
    assert {"torch.vmap.per_sample", "torch.autograd.gradient"} <= ranked
