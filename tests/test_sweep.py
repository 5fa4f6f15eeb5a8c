"""Several features, dtypes and numbers of threads in one run: every combination, in one file, ranked by itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from measured import measure_at_once

from gradkernels.bench.cli import main
from gradkernels.bench.cli.run_plan import CaseOptions, PlanOptions, planned
from gradkernels.bench.cli.table_options import DataOptions
from gradkernels.record import read

FEW = (
    "run",
    "--kernel",
    "numpy.matmul",
    "--quantity",
    "gradient",
    "--passes",
    "1",
    "--budget",
    "0.2s",
    "--sizes",
    "10",
)


def plans(features=None, dtype=None, threads="1", data=None, target=None):
    cases = CaseOptions("10", features, dtype, "C", "cpu", threads, 0)
    asked = PlanOptions("linear", False, "gradient", ["numpy.matmul"], None, cases, DataOptions(data, target))
    with planned(asked) as (found, _):
        return [(plan.features, plan.dtype, plan.threads) for plan in found]


def test_every_combination_is_planned_once():
    assert plans() == [(1, "float64", 1)]
    assert plans("1,10, 1", "float32,float64", "1,2") == [
        (1, "float32", 1), (1, "float32", 2), (1, "float64", 1), (1, "float64", 2),
        (10, "float32", 1), (10, "float32", 2), (10, "float64", 1), (10, "float64", 2),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"features": "1,ten"}, "--features 1,ten: 'ten' is not a whole number from 1 to 10^18; write 1,10,100"),
        ({"features": "0"}, "--features 0: '0' is not a whole number"),
        ({"features": "1,,2"}, "--features 1,,2: '' is not a whole number"),
        ({"threads": "9" * 5000}, "is not a whole number"),
        ({"threads": "1.5"}, "--threads 1.5: '1.5' is not a whole number"),
        ({"dtype": "float32,float63"}, "float63"),
        ({"features": "2", "data": "notebook"}, "--features 2: notebook has 1; leave --features out"),
    ],
)
def test_what_is_none_is_refused(given, says):
    with pytest.raises(ValueError, match=".") as caught:
        plans(**given)
    assert says in str(caught.value)


def test_a_sweep_is_one_file_with_a_table_for_each_combination(tmp_path, monkeypatch, capsys, long):
    monkeypatch.chdir(tmp_path)
    if not long:
        measure_at_once(monkeypatch)
    assert main([*FEW, "--features", "1,3", "--out", "x.csv"]) == 0
    rows = [row for row in read("x.csv") if row.kernel == "numpy.matmul.gradient"]
    assert [(row.case.features, row.pass_) for row in rows] == [(1, 1), (3, 1)]
    assert len({row.run for row in rows}) == 1
    told = capsys.readouterr().out
    for title in ("1 feature", "3 features"):
        assert f"gradient of linear, {title}, float64, 1 thread" in told
    before = Path("x.csv").read_bytes()
    assert main([*FEW, "--features", "1,3", "--out", "x.csv", "--resume"]) == 0
    assert Path("x.csv").read_bytes() == before
    capsys.readouterr()
    assert main([*FEW, "--features", "1", "--out", "x.csv", "--resume"]) == 2
    assert "--resume: x.csv has rows of numpy.matmul.gradient" in capsys.readouterr().err


def test_a_graphics_card_that_is_not_there_is_refused_at_once(tmp_path, monkeypatch, capsys):
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is one")
    monkeypatch.chdir(tmp_path)
    assert main([*FEW, "--device", "cuda", "--out", "x.csv"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("gradkernels: --device cuda: ")
    assert told.count("\n") == 1
    assert not list(tmp_path.iterdir())
