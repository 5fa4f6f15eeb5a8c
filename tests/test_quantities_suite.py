"""The suite of `python bench/quantities`: what it holds results against, how it goes on, and what its tables say."""

import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scripted import Scripted

import gradkernels as gk
from gradkernels.backend import BACKENDS
from gradkernels.bench.isolation.errors import WorkerDied
from gradkernels.check import Disagreement

BENCH = Path(__file__).parents[1] / "bench"
sys.path[1:1] = [str(BENCH / name) for name in ("quantities", "quantities/peers", "over_batch")]

import quantity_cell  # noqa: E402
import quantity_main  # noqa: E402
import quantity_models  # noqa: E402
import quantity_run  # noqa: E402
from batch_orders import AtWork, CellDone  # noqa: E402
from batch_truth import Truth  # noqa: E402
from peer_rows import ALL, finisher  # noqa: E402
from quantity_asks import ASKS, Draw, chosen_asks  # noqa: E402
from quantity_definitions import DEFINITIONS  # noqa: E402
from quantity_orders import MEMORY, TIME, Orders, Size, WayFound, WayPeak  # noqa: E402
from quantity_rows import BATCH, Found, Row, append_row, read_rows  # noqa: E402
from quantity_table import details, shortfalls, summary  # noqa: E402
from quantity_truth import ModuleTruth  # noqa: E402
from quantity_ways import Refused, Setting, Way, own_ways, peers_of  # noqa: E402

N = 7


def samples(n):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(n, 3, generator=generator), torch.arange(n) % 2


def small_truth():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2))
    return ModuleTruth(Truth.of(gk.ModuleProblem(model, torch.nn.functional.cross_entropy, example=samples(5))))


@pytest.fixture(scope="module")
def truth():
    return small_truth()


@pytest.fixture(scope="module")
def rows(truth):
    """Single-sample autograd on any samples, by name."""
    model, loss = truth.problem.model, torch.nn.functional.cross_entropy
    names = [name for name, _ in model.named_parameters()]

    def rows(x, y):
        found = [
            torch.autograd.grad(loss(model(x[at : at + 1]), y[at : at + 1]), list(model.parameters()))
            for at in range(len(y))
        ]
        return {name: torch.stack(parts) for name, parts in zip(names, zip(*found, strict=True), strict=True)}

    return rows


def setting(truth, label):
    _, x, y = BACKENDS["torch"].put(truth.inputs(N))
    options = ASKS[label].draw(Draw(N, truth.problem.parameters(), (x, y), truth.lengths))
    return Setting(truth.problem, ASKS[label], None, x, y, N, options)


# What results are held against.


@pytest.mark.parametrize("label", ALL)
def test_honest_results_pass_and_one_entry_off_does_not(truth, rows, label):
    asked = setting(truth, label)
    result = finisher(asked, rows)()
    assert truth.error(asked.ask, N, asked.options, result) < 1e-6
    first = result[0] if isinstance(result, tuple) else result
    last = list(first.values())[-1] if isinstance(first, dict) else first
    last.view(-1)[-1] += 0.1
    assert truth.error(asked.ask, N, asked.options, result) > truth.tolerance == 1e-4


def test_each_call_has_a_definition_and_the_asks_are_those_of_the_public_functions():
    assert {*DEFINITIONS} == {*ALL} == {label for label, ask in ASKS.items() if not ask.regression}
    assert all(hasattr(gk, ask.quantity) for ask in ASKS.values())


def test_missing_and_misnamed_parameters_other_shapes_and_nan_are_seen(truth, rows):
    asked = setting(truth, "norms by=parameter")
    result = finisher(asked, rows)()
    last, values = result.popitem()
    with pytest.raises(Disagreement, match="the result has the arrays"):
        truth.error(asked.ask, N, asked.options, result)
    with pytest.raises(Disagreement, match=r"2\.bias is \(6,\), expected 7 rows of 1"):
        truth.error(asked.ask, N, asked.options, {**result, last: values[1:]})
    assert truth.error(asked.ask, N, asked.options, {**result, last: values * np.nan}) == np.inf


def test_projections_by_other_matrices_have_to_keep_inner_products(truth, rows):
    asked = setting(truth, "project gaussian")
    flat = torch.cat([part.flatten(1) for part in rows(asked.x, asked.y).values()], 1)
    generator = torch.Generator().manual_seed(3)
    other = flat @ torch.randn(flat.shape[1], 512, generator=generator) / 512**0.5
    assert truth.kept_products(asked.ask, N, asked.options, other) < truth.distortion
    assert truth.kept_products(asked.ask, N, asked.options, 2 * other) > truth.distortion
    with pytest.raises(Disagreement, match="equal samples"):
        truth.kept_products(asked.ask, N, asked.options, other.roll(1, 0))


@pytest.mark.parametrize("name", ["linear", "logistic"])
def test_outer_products_of_a_regression_are_held_to_the_formula_of_its_slope(name):
    truth = quantity_models.truth_of(name)
    theta, x, y = truth.inputs(40)
    groups = np.arange(40) % 3
    result = gk.outer(truth.problem, theta, x, y)
    assert truth.error(ASKS["outer"], 40, {}, result) < 1e-14
    assert truth.error(ASKS["outer"], 40, {"groups": groups}, result) > 1e-3
    assert (
        truth.error(ASKS["outer"], 40, {"groups": groups}, gk.outer(truth.problem, theta, x, y, groups=groups)) < 1e-14
    )


@pytest.mark.parametrize("label", [label for label in ASKS if not ASKS[label].regression])
def test_what_other_libraries_give_passes_too(truth, label, long):
    if not long:
        pytest.skip("loads many libraries: --long")
    for way in peers_of(ASKS[label]):
        if not way.missing and not way.projects:
            asked = setting(truth, label)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    result = way.build(asked)()
                except Refused:
                    continue
            assert truth.error(asked.ask, N, asked.options, result) <= truth.tolerance, way.name


# A measuring process, in this one.


class Told(list):
    """In place of the connection to a supervisor."""

    send = list.append

    def beat(self, case, kernel):
        """Say nothing."""


def test_a_cell_is_proven_timed_in_turns_and_reported_with_the_batch_last(monkeypatch):
    monkeypatch.setattr(quantity_cell, "truth_of", lambda model: small_truth())
    for name in ("SHORTEST", "WARM_SECONDS", "SETTLING_SECONDS"):
        monkeypatch.setattr(quantity_cell, name, 0.005)
    monkeypatch.setattr(quantity_cell, "PEAKS", 1)
    wrong = Way("wrong", "torch", "torch", (), lambda setting: lambda: torch.ones(N))
    absent = Way("absent", "absent", "absent_library", (), lambda setting: None)
    ours = Way("gradkernels", "gradkernels", "gradkernels", (), lambda one: lambda: gk.inner(
        one.problem, None, one.x, one.y, one.options["v"], kernel="torch.hooks"))  # fmt: skip
    monkeypatch.setattr(quantity_cell, "own_ways", lambda problem, ask: [ours])
    monkeypatch.setattr(quantity_cell, "peers_of", lambda ask: [wrong, absent])
    told, cells = Told(), ((N, "inner K=1"), (10**9, "inner K=1"))
    orders = Orders("small", 1, TIME, cells, ((0, "inner K=1", "none", ""),), 3, np.inf, 2**20)
    quantity_cell.measure(orders, told)
    found = {one.found.kernel: one.found for one in told if isinstance(one, WayFound)}
    assert list(found) == ["gradkernels", "wrong", "absent", BATCH]
    assert found["gradkernels"].status == "ok"
    assert found["gradkernels"].error < 1e-6
    assert found["gradkernels"].result_bytes == 4 * N
    assert 0 < found["gradkernels"].ratio_low <= found["gradkernels"].ratio <= found["gradkernels"].ratio_high
    assert found["wrong"].status.startswith("wrong: an entry is off by")
    assert found["wrong"].peer == f"torch {torch.__version__}"
    assert found["absent"].status == "missing: absent is not installed"
    assert [one.left_out for one in told if isinstance(one, CellDone)] == ["", "its rows take 99,182 MiB"]
    told.clear()
    quantity_cell.measure(replace(orders, what=MEMORY, cells=cells[:1]), told)
    assert [one.kernel for one in told if isinstance(one, WayPeak)] == [BATCH, "gradkernels"]


def test_our_ways_are_the_default_call_and_kernels_of_their_own(truth):
    names = [way.name for way in own_ways(truth.problem, ASKS["inner K=1"])]
    assert names[0] == "gradkernels"
    assert "torch.hooks" in names
    assert not {"torch.vmap", "torch.loop", "opacus.hooks"} & {*names}
    assert "torchjd autogram" in [way.name for way in peers_of(ASKS["gram"])]
    assert "statsmodels scores" in [way.name for way in peers_of(ASKS["outer"])]


# How it goes on.

ORDERS = Orders("", 1, "", (), (), 9, 0.0, 2**30)
OURS = Found("gradkernels", "", "ok", 0.002, 2.0, 1.9, 2.2, 9, 1e-7, 1e-4, 40)
PLAIN = Found(BATCH, "", "ok", 0.001, 1.0, 1.0, 1.0, 9)


@pytest.fixture
def run(tmp_path, monkeypatch):
    def go(script, *asks, sizes=(64,), until=1e12):
        monkeypatch.setattr(quantity_run, "reports", script)
        told = []
        quantity_run.Run(tmp_path / "x.csv", ORDERS, 60.0, told.append).go(["mlp"], asks, sizes, until)
        return read_rows(tmp_path / "x.csv"), told

    return go


def test_peaks_of_one_process_go_into_the_rows_of_the_next_and_nothing_is_measured_twice(run):
    peaks = [Size(9), WayPeak(0, BATCH, 100), WayPeak(0, "gradkernels", 150)]
    script = Scripted(peaks, [Size(9), WayFound(0, OURS), WayFound(0, PLAIN), CellDone(0, "")])
    found, _ = run(script, "gram")
    assert [one.what for one in script.orders] == [MEMORY, TIME]
    assert [(row.found.kernel, row.peak_bytes, row.memory) for row in found] == [
        ("gradkernels", 150, 1.5),
        (BATCH, 100, 1.0),
    ]
    assert found[0].found == OURS
    assert (found[0].model, found[0].parameters, found[0].label, found[0].n) == ("mlp", 9, "gram", 64)
    assert len(run(Scripted(), "gram")[0]) == 2


def test_a_way_that_ends_its_process_is_left_out_from_that_size_on(run):
    done = [WayFound(0, OURS), WayFound(0, PLAIN), CellDone(0, "")]
    script = Scripted([Size(9), AtWork(0, "captum TracInCP"), WorkerDied("failed", "SIGSEGV")], [Size(9), *done])
    found, told = run(script, "inner K=8")
    assert len(found) == 2
    assert "it ended its process at n = 64" in script.orders[1].skipped((64, "inner K=8"), "captum TracInCP")
    assert script.orders[1].skipped((16, "inner K=8"), "captum TracInCP") == ""
    assert script.orders[1].skipped((64, "inner K=1"), "captum TracInCP") == ""
    assert "  failed: n = 64 inner K=8, captum TracInCP: SIGSEGV" in told


def test_a_death_in_the_turns_costs_the_cell_and_what_is_left_out_is_told(run):
    script = Scripted([Size(9), AtWork(0, ""), WorkerDied("timeout", "it hung")])
    found, _ = run(script, "inner K=8")
    assert [row.found.status for row in found] == ["refused: timeout: it hung"]
    _, told = run(Scripted([Size(9), CellDone(0, "it would take about 9 s")]), "weighted_sum K=8")
    assert told[-1] == "  left out: time of mlp: n = 64 weighted_sum K=8: it would take about 9 s"


def test_calls_are_chosen_by_function_or_with_their_options_and_sizes_by_kind_of_model():
    assert chosen_asks(["gram", "inner K=8"]) == ("gram", "inner K=8")
    assert chosen_asks(["inner"]) == ("inner K=1", "inner K=8")
    assert chosen_asks(["clipped_sum"]) == tuple(one for one in ASKS if one.startswith("clipped_sum"))
    with pytest.raises(ValueError, match="did you mean"):
        chosen_asks(["inneer"])
    assert quantity_models.sizes_of("mlp", ()) == (64, 128, 16, 512)
    assert quantity_models.sizes_of("mlp", (16, 10_000, 32)) == (16, 32)
    assert quantity_models.sizes_of("linear", (16, 10_000)) == (10_000,)


# The file and the tables.

FACTS = dict.fromkeys(("started", "machine", "versions", "commit"), "x")


def row(found, label="gram", n=64, model="mlp", peak=None):
    ask = ASKS[label]
    return Row(model, 9, ask.quantity, ask.options, n, 1, found, peak, None, FACTS)


ROWS = [
    row(OURS, peak=150),
    row(replace(OURS, kernel="torch.hooks", ratio=1.5), peak=120),
    row(replace(OURS, kernel="torchjd autogram", peer="torchjd 1", ratio=3.0)),
    row(Found("absent", "", "missing: absent is not installed")),
    row(PLAIN, peak=100),
    row(replace(OURS, ratio=1.6), n=512),
    row(replace(OURS, kernel="torchjd autogram", peer="torchjd 1", ratio=1.2), n=512),
    row(PLAIN, n=512),
    row(replace(OURS, ratio=0.4), n=16),
    row(PLAIN, n=16),
    row(replace(OURS, ratio=9.0), "inner K=1"),
]


def test_rows_come_back_from_the_file_as_they_were_and_other_files_are_refused(tmp_path):
    path = tmp_path / "x.csv"
    for one in ROWS:
        append_row(path, one)
    assert read_rows(path) == ROWS
    path.write_text(path.read_text() + "mlp,9,gram")
    with pytest.raises(ValueError, match="line 13: it is cut off"):
        read_rows(path)
    path.write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="has the columns a, b"):
        read_rows(path)


def test_aims_are_about_our_fastest_in_complete_cells_of_64_samples_or_more():
    shown = list(summary(ROWS))
    assert "| `gram` | 2 | 1.55 | 1.8 | 1.60 | 1.79 | 1.22 times | 1 of 2 |" in shown
    assert "| `gram` | 1 | 0.86 | 1.3 | 0.86 | 0 |" in shown
    assert not any("inner" in line for line in shown)
    slow = [replace(one, found=replace(one.found, ratio=2.0)) if one.is_ok else one for one in ROWS]
    assert any("1.8 MISSED" in line for line in summary(slow))


def test_every_cell_has_a_line_and_what_another_library_does_faster_is_said():
    shown = list(details(ROWS))
    assert "| mlp, 64, 1 | 1 | 1.50 `torch.hooks` | 2.00 | 3.00 `torchjd autogram` | 0.86 |" in shown
    assert "| mlp, 16, 1 | 1 | 0.40 `gradkernels` | 0.40 | - | - |" in shown
    behind = list(shortfalls(ROWS))
    assert behind[0] == "  gram: 1.33 times as long as `torchjd autogram` on mlp, n = 512"
    assert behind[-1] == "  absent: missing: absent is not installed (1: everywhere)"


def test_the_command_prints_a_files_tables_and_refuses_in_sentences(tmp_path, capsys):
    path = tmp_path / "x.csv"
    assert quantity_main.main(["--summary", "--out", str(path)]) == 0
    assert "x.csv has no rows yet" in capsys.readouterr().out
    assert quantity_main.main(["--budget", "soon", "--out", str(path)]) == 2
    assert "write a number with s, min, h" in capsys.readouterr().out
    assert quantity_main.main(["--models", "mpl", "--out", str(path)]) == 2
    assert "mlp" in capsys.readouterr().out
    for one in ROWS:
        append_row(path, one)
    assert quantity_main.main(["--show", "--out", str(path)]) == 0
    assert "Cells in which another library is faster" in capsys.readouterr().out
    assert quantity_main.seconds_of("90s") == 90.0
    assert quantity_main.seconds_of("2") == 120.0
