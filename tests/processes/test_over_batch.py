"""The suite of `python bench/over_batch`: what it holds results against, how it goes on, and what its tables say."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scripted import Scripted
from torch import nn

import gradkernels as gk
from gradkernels.backend import BACKENDS
from gradkernels.bench.isolation.errors import WorkerDied
from gradkernels.bench.results.results_file import ResultsFile
from gradkernels.bench.timing.prepared_kernel import PreparedKernel
from gradkernels.bench.timing.slices import TimedCall
from gradkernels.case import Case
from gradkernels.check import Disagreement
from gradkernels.coordinates import Coordinates
from gradkernels.record import Measurement, Record, read
from gradkernels.zoo import ZOO

BENCH = Path(__file__).parents[2] / "bench"
sys.path.insert(0, str(BENCH / "over_batch"))

import batch_main  # noqa: E402
import batch_plan  # noqa: E402
import batch_race  # noqa: E402
import batch_run  # noqa: E402
from batch_models import MODELS  # noqa: E402
from batch_orders import AtWork, CellDone, KernelMeasured, Orders, PeakMeasured, Subject  # noqa: E402
from batch_prepare import Preparation  # noqa: E402
from batch_table import Cell, cells_of, costs, table  # noqa: E402
from batch_targets import Target, print_tables, summary  # noqa: E402
from batch_truth import Truth  # noqa: E402

# What results are held against.


def samples(n):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(n, 3, generator=generator), torch.arange(n) % 2


@pytest.fixture(scope="module")
def truth():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    return Truth.of(gk.ModuleProblem(model, nn.functional.cross_entropy, example=samples(5)))


def rows_one_by_one(truth, n):
    """Single-sample autograd, `(n, *shape)` by name."""
    _, x, y = BACKENDS["torch"].put(truth.inputs(n))
    model, found = truth.problem.model, []
    for at in range(n):
        loss = nn.functional.cross_entropy(model(x[at : at + 1]), y[at : at + 1])
        found.append(torch.autograd.grad(loss, list(model.parameters())))
    names = [name for name, _ in model.named_parameters()]
    return {name: torch.stack(parts) for name, parts in zip(names, zip(*found, strict=True), strict=True)}


@pytest.fixture(params=[3, 5, 13])
def case_results(request, truth):
    """Results of fewer samples than the tile has, as many, and more, from rows computed one by one."""
    rows = rows_one_by_one(truth, request.param)
    flat = torch.cat([part.flatten(1) for part in rows.values()], 1)
    factors = (1 / flat.norm(dim=1)).clip(max=1.0)
    return request.param, {
        "per_sample": rows,
        "norms": flat.norm(dim=1),
        "gradient": {name: part.mean(0) for name, part in rows.items()},
        "clipped_sum": {name: torch.tensordot(factors, part, 1) for name, part in rows.items()},
    }


def test_honest_results_are_within_float32s_rounding(truth, case_results):
    n, results = case_results
    for quantity, result in results.items():
        assert truth.error(quantity, n, result) < 1e-6, quantity


@pytest.mark.parametrize("quantity", ["per_sample", "norms", "gradient", "clipped_sum"])
def test_one_entry_off_in_the_last_sample_or_parameter_is_seen(truth, case_results, quantity):
    n, results = case_results
    result = results[quantity]
    last = result if quantity == "norms" else list(result.values())[-1]
    last.view(-1)[-1] += 0.01
    assert truth.error(quantity, n, result) > truth.problem.tolerance("float32", 0) == 1e-4


def test_rows_in_another_order_zeros_and_what_is_no_number_are_seen(truth, case_results):
    n, results = case_results
    rows = results["per_sample"]
    assert truth.error("per_sample", n, {name: part.flip(0) for name, part in rows.items()}) > 1e-2
    assert truth.error("per_sample", n, {name: 0 * part for name, part in rows.items()}) > 1e-1
    assert truth.error("per_sample", n, {name: part * np.nan for name, part in rows.items()}) == np.inf


def test_a_parameter_that_is_missing_or_in_another_place_is_refused(truth, case_results):
    n, results = case_results
    backwards = dict(reversed(results["per_sample"].items()))
    with pytest.raises(Disagreement, match=r"the parameters \['2.bias'"):
        truth.error("per_sample", n, backwards)


def test_a_wrong_kernel_is_refused_by_the_librarys_own_proof(truth):
    kernel = gk.kernel("torch.hooks.norms")
    compute = kernel.build(truth.problem)
    case = Case(truth.problem, "norms", 7, "float32")
    arrays = BACKENDS["torch"].put(truth.inputs(7))
    assert truth.prove(kernel, compute, case, compute(*arrays), thorough=True).error < 1e-6

    def doubled(theta, x, y, out=None):
        return 2 * compute(theta, x, y)

    with pytest.raises(Disagreement, match=r"torch\.hooks\.norms"):
        truth.prove(kernel, doubled, case, doubled(*arrays), thorough=False)


def test_what_is_wrong_at_first_or_only_after_timing_gets_no_time(truth):
    kernel, prepare, case = (
        gk.kernel("torch.hooks.norms"),
        Preparation(truth),
        Case(truth.problem, "norms", 7, "float32"),
    )
    arrays = BACKENDS["torch"].put(truth.inputs(7))
    one = prepare(kernel, case, arrays)
    one.timed.slices.append(0.5)
    assert prepare.measured(one, case).seconds_median == 0.5
    prepare.built[kernel.key] = compute = lambda theta, x, y, out=None: torch.ones(7)
    assert prepare(kernel, case, arrays).status == "wrong"
    late = replace(one, compute=compute, timed=replace(one.timed, call=lambda: torch.ones(7)))
    assert prepare.measured(late, case).status == "wrong"
    assert prepare.measured(late, case).seconds_median is None


# How it goes on.

ORDERS = Orders("", 1, "cpu", "", ((8, "norms"), (16, "norms")), (), (), 0.0, 0.0, 2**30)
SUBJECT = Subject("module:Small:0", 3, 10)
OK = {"error": 0.0, "tolerance": 1e-4}


def timed(kernel, seconds, backend="torch", **more):
    return Measurement(kernel, backend, "ok", **OK, rounds=9, iterations=1, seconds_median=seconds, **more)


def cell(position, **seconds):
    for name, value in seconds.items():
        key = "batch" if name == "batch" else f"torch.{name}.norms"
        yield KernelMeasured(position, timed(key, value))
    yield CellDone(position, "")


@pytest.fixture
def run(tmp_path, monkeypatch):
    def go(script, *jobs, until=1e12):
        monkeypatch.setattr(batch_run, "reports", script)
        told = []
        with ResultsFile(tmp_path / "x.csv", "resume") as file:
            batch_run.Run(file, ORDERS, 1, 60.0, told.append).go(jobs, until)
        return read(tmp_path / "x.csv"), told

    return go


TIME, MEMORY = batch_plan.Job("mlp", 1, "time"), batch_plan.Job("mlp", 1, "memory")


def test_peaks_of_one_process_go_into_the_rows_of_the_next(run):
    peaks = [SUBJECT, PeakMeasured(0, "batch", 100), PeakMeasured(1, "torch.hooks.norms", 7)]
    rows, _ = run(Scripted(peaks, [SUBJECT, *cell(0, batch=1.0), *cell(1, hooks=2.0, batch=1.0)]), MEMORY, TIME)
    seen = [(row.case.n, row.kernel, row.measurement.peak_bytes) for row in rows]
    assert seen == [(8, "batch", 100), (16, "torch.hooks.norms", 7), (16, "batch", None)]
    assert rows[0].case == Coordinates("module:Small:0/mlp", "norms", 8, 3, "float32", "C", "cpu", 1)
    assert rows[0].parameters == 10


def test_what_has_its_row_is_not_measured_again(run):
    run(Scripted([SUBJECT, *cell(0, batch=1.0), CellDone(1, "it would take too long")]), TIME)
    script = Scripted([SUBJECT, *cell(0, batch=3.0)])
    rows, _ = run(script, TIME)
    assert [one.cells for one in script.orders] == [((16, "norms"),)]
    assert [(row.case.n, row.measurement.seconds_median) for row in rows] == [(8, 1.0), (16, 3.0)]
    assert run(Scripted(), TIME)[1] == []


def test_what_there_is_no_time_for_is_told_in_one_line_and_starts_no_process(run):
    late = [SUBJECT, CellDone(0, "it would take 9 s, and 2 s are left"), CellDone(1, "it would take 8 s")]
    _, told = run(Scripted([SUBJECT, *cell(0, batch=1.0), CellDone(1, "no")], late), TIME, replace(TIME, threads=2))
    assert told[1] == "  left out: n = 16 norms: no"
    assert told[3:] == ["  left out: n = 8 norms; n = 16 norms: it would take 9 s, and 2 s are left"]
    assert run(Scripted(), TIME, until=0)[1] == ["  left out: n = 16 norms: the time is over"]


def test_a_kernel_that_ends_its_process_is_left_out_from_that_size_on_and_told(run):
    death = WorkerDied("timeout", "it took longer")
    script = Scripted(
        [SUBJECT, *cell(0, batch=1.0), AtWork(1, "torch.hooks.norms"), death],
        [SUBJECT, AtWork(0, ""), *cell(0, batch=2.0)],
    )
    rows, told = run(script, TIME)
    assert script.orders[1].cells == ((16, "norms"),)
    hooks = gk.kernel("torch.hooks.norms")
    assert script.orders[1].skipped(16, hooks) == ("timeout", "at n = 16: it took longer")
    assert script.orders[1].skipped(1024, hooks) == ("timeout", "at n = 16: it took longer")
    assert script.orders[1].skipped(8, hooks) is None
    assert script.orders[1].skipped(16, gk.kernel("torch.hooks.gradient")) is None
    assert "  timeout: n = 16 norms, torch.hooks.norms: it took longer" in told
    assert [row.case.n for row in rows] == [8, 16]


def test_a_death_in_the_turns_costs_the_cell_and_one_at_the_start_the_job(run):
    death = WorkerDied("failed", "the process was ended by SIGSEGV")
    script = Scripted([SUBJECT, AtWork(0, ""), death], [SUBJECT, *cell(0, batch=1.0)], [death])
    rows, told = run(script, TIME, batch_plan.Job("mlp", 2, "time"))
    assert [(row.case.n, str(row.measurement.status)) for row in rows] == [(8, "failed"), (16, "ok")]
    assert rows[0].measurement.reason == "the process was ended by SIGSEGV"
    assert told[-1] == "  left out: all: failed at the start: the process was ended by SIGSEGV"


def test_jobs_and_cells_come_in_the_order_that_little_time_serves_best():
    found = [(job.what, job.model, job.threads) for job in batch_plan.jobs(["mlp", "cnn"], [1, 2])]
    assert found == [
        ("memory", "mlp", 1), ("time", "mlp", 1), ("memory", "cnn", 1), ("time", "cnn", 1),
        ("time", "mlp", 2), ("time", "cnn", 2), ("jax", "mlp", 1), ("jax", "mlp", 2),
    ]  # fmt: skip
    assert batch_plan.cells([8, 7, 128], ["norms"]) == ((128, "norms"), (8, "norms"), (7, "norms"))


# The turns.


def taking(seconds, key):
    return PreparedKernel(TimedCall(key, lambda: None, clock=lambda call, iterations: seconds), "torch", None)


def test_only_the_best_peers_take_turns_and_the_others_keep_their_trial():
    ours, batch = taking(0.002, "torch.hooks.norms"), taking(0.001, "batch")
    peers = [taking(seconds, str(seconds)) for seconds in (0.004, 0.001, 0.003, 0.002)]
    found = batch_race.race([ours], peers, [batch], 0.01, np.random.default_rng(0), lambda _: None)
    assert found == {"0.004": 0.004, "0.001": 0.001, "0.003": 0.003, "0.002": 0.002}
    assert [len(one.timed.slices) > batch_race.TRIALS for one in peers] == [False, True, False, True]
    assert len(ours.timed.slices) > batch_race.TRIALS
    assert len(peers[0].timed.slices) == batch_race.TRIALS


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device: nothing to time by its events")
def test_cuda_slices_contain_what_goes_on_after_a_call_has_returned():
    a = torch.randn(4096, 4096, device="cuda")
    a @ a
    one, four = batch_race.cuda_slice(lambda: a @ a, 4), batch_race.cuda_slice(lambda: [a @ a for _ in range(4)], 4)
    assert 2 < four / one < 8


# The tables.


def row(kernel, seconds, quantity="norms", n=16, model="mlp", **more):
    facts = dict.fromkeys(("started", "machine", "cpu", "os", "python", "versions", "commit"), "")
    case = Coordinates(f"module:Small:0/{model}", quantity, n, 3, "float32", "C", "cpu", 1)
    return Record(1, "r", cores=2, case=case, parameters=10, seed=0, pass_=1,
                  measurement=timed(kernel, seconds, **more), **facts)  # fmt: skip


ROWS = [
    row("batch", 0.010, peak_bytes=1000),
    row("torch.hooks.norms", 0.012, peak_bytes=1500),
    row("torch.recorded.norms", 0.006, seconds_first=2.5, peak_bytes=1100),
    row("opacus.ghost.norms", 0.024),
    row("torch.vmap+.norms", 0.030),
    row("batch", 0.020, "per_sample", 128),
    row("bandwidth.write", 0.005, "per_sample", 128),
    row("torch.hooks.per_sample", 0.030, "per_sample", 128),
    row("batch", 0.001, model="mlp jax"),
    row("jax.vmap.norms", 0.003, model="mlp jax"),
]


def test_a_cell_is_measured_by_its_batch():
    found = Cell(ROWS[:5])
    assert found.ours == ("torch.recorded", pytest.approx(0.6))
    assert found.peer == ("opacus.ghost", pytest.approx(2.4))
    assert found.memory == pytest.approx(1.1)
    rows = Cell(ROWS[5:8])
    assert (rows.limit, rows.ours[1], rows.peer) == (pytest.approx(1.25), pytest.approx(1.5), None)


def test_a_line_of_the_table():
    small, large = [line for line in table(cells_of(ROWS), 1) if line.startswith("| mlp")]
    assert large == "| mlp, 128 | 20 | 1.25 | 1.50 | - | - | - | - | - | - | - | - | - | - |"
    assert small == "| mlp, 16 | 10 | - | - | - | - | 1.20 | 0.60 | 2.40 `opacus.ghost` | - | - | - | - | - |"


def test_a_line_of_first_calls_and_memory():
    large, small = sorted(line for line in costs(cells_of(ROWS), 1) if line.startswith("| mlp"))
    assert large == "| mlp, 128 | - | - | - | - | - | - | - | - |"
    assert small == "| mlp, 16 | - | - | 2.50 | 1.10 | - | - | - | - |"


def test_targets_that_are_missed_are_said_with_the_worst_cells():
    figures = {(1, "mlp", n, "norms"): value for n, value in ((8, 0.5), (16, 2.0))}
    missed = Target("8 to 32", "norms over a batch", figures, 0.8, 1.4)
    assert missed.row() == "| 8 to 32 | norms over a batch | 2 | 1.00 | 0.80 MISSED | 2.00 | 1.40 | 1 |"
    assert [*missed.worst_cells()] == ["  norms over a batch (8 to 32): 2.00 mlp, n = 16, norms, 1 thread"]
    reached = replace(missed, mean=1.0, worst=2.0)
    assert reached.row() == "| 8 to 32 | norms over a batch | 2 | 1.00 | 1.00 | 2.00 | 2.00 | 0 |"
    assert [*reached.worst_cells()] == []
    assert Target("all", "nothing", {}, None, 1.0).row() == "| all | nothing | 0 | | | | | |"


def test_everything_is_printed(capsys):
    failed = replace(ROWS[0], measurement=Measurement("torch.loop.norms", "torch", "failed", "RuntimeError: no"))
    known = row("batch", 0.010, n=64), row("torch.recorded.norms", 0.006, n=64, seconds_first=0.1)
    print_tables([*ROWS, *known, failed])
    shown = capsys.readouterr().out
    assert "| 8 to 32 | norms over a batch | 1 | 0.60 | 0.80 | 0.60 | 1.40 | 0 |" in shown
    assert "| 8 to 32 | gradient over a batch | 0 | | | | | |" in shown
    assert "per_sample over batch and writing | 1 | 1.20 | 1.15 MISSED | 1.20 | 1.50 | 0 |" in shown
    assert "| all | time over the best of the others | 1 | 0.25 | 0.33 | 0.25 | 1.00 | 0 |" in shown
    assert "| all | longest first call of what is recorded, seconds | 1 | 2.50 |  | 2.50 | 2.00 | 1 |" in shown
    assert "mlp jax, n = 16, norms, 1 thread: 5.00 (jax.vmap 3.00, torch.recorded 0.60)" in shown
    assert "mlp 16 torch.loop.norms: failed: RuntimeError: no" in shown


def test_what_falls_short_is_said_beside_what_bounds_it():
    late = [row("batch", 0.010), row("torch.recorded.norms", 0.016), row("batch", 0.010, "gradient"),
            row("torch.recorded.gradient", 0.009, "gradient"), row("batch", 0.010, "per_sample"),
            row("bandwidth.write", 0.005, "per_sample"),
            row("torch.hooks.per_sample", 0.018, "per_sample")]  # fmt: skip
    shown = [*summary(cells_of(late))]
    assert "| mlp: norms over a batch | 16 | 1.60 | 1.40 | - | 0.90 |" in shown
    assert "| mlp: per_sample over a batch | 16 | 1.80 | 1.40 | 1.50 | 0.90 |" in shown
    assert "| 5 to 20 ms | 3 | 1.80 | 1.60 | - | 0.90 |" in shown
    assert not any("JAX" in line for line in shown)


def test_two_threads_have_targets_of_their_own_and_jax_a_table():
    def of_two(one):
        return replace(one, case=replace(one.case, threads=2))

    shown = [*summary(cells_of([*ROWS[:3], of_two(ROWS[0]), of_two(ROWS[1]), *ROWS[8:]]))]
    assert "| 8 to 32, 1 thread | norms over a batch | 1 | 0.60 | 0.80 | 0.60 | 1.40 | 0 |" in shown
    assert "| 8 to 32, 2 threads | norms over a batch | 1 | 1.20 | 0.80 MISSED | 1.20 | 1.40 | 0 |" in shown
    assert shown[-1] == "| mlp, 16 | - | 5.00 | - | - |"


# The whole of it, on the smallest of models.


def test_a_run_measures_proves_and_prints_and_goes_on_where_it_was(tmp_path, capsys):
    out = tmp_path / "x.csv"
    some = ["--models", "deep_mlp", "--threads", "1", "--quantities", "norms", "--seconds", "0.01", "--out", str(out)]
    assert batch_main.main([*some, "--sizes", "3"]) == 0
    rows = {row.kernel: row.measurement for row in read(out)}
    timed_ones = {key for key, one in rows.items() if one.status == "ok"}
    assert {"batch", "torch.hooks.norms", "torch.vmap+.norms"} <= timed_ones
    assert rows["torch.hooks.norms"].error <= 1e-4
    assert rows["torch.hooks.norms"].seconds_first > 0
    assert all(one.status in ("ok", "unsupported") for one in rows.values())
    shown = capsys.readouterr().out
    assert "| deep_mlp, 3 |" in shown
    assert batch_main.main([*some, "--sizes", "3", "--minutes", "0"]) == 0
    assert len(read(out)) == len(rows)


def test_wrong_names_and_a_device_that_is_not_here_are_refused_in_a_sentence(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    out = ["--out", str(tmp_path / "x.csv")]
    assert batch_main.main([*out, "--models", "mpl"]) == 2
    assert "mlp" in capsys.readouterr().out
    assert batch_main.main([*out, "--show"]) == 2
    assert "x.csv" in capsys.readouterr().out
    assert batch_main.main(out, device="cuda") == 2
    assert "torch sees no cuda device here" in capsys.readouterr().out


@pytest.mark.parametrize("model", ["bert", "gpt2", "llama", "vit", "llama_lora", "unet"])
def test_real_models_are_made_and_have_a_loss_and_64_samples(model):
    pytest.importorskip("diffusers" if model == "unet" else "transformers", reason="the extra `real` is not installed")
    problem = MODELS[model]()
    x, y = problem.example
    assert {len(value) for value in (*x.values(), y)} == {64}
    assert ("attention_mask" in x) == (model in ("bert", "llama_lora"))
    loss = batch_race.plain(problem.model, problem.loss_fn, list(problem.parameters().values()), x, y)
    assert all(torch.isfinite(part).all() for part in loss)
    assert any(part.abs().max() > 0 for part in loss)


def test_real_models_are_found_without_what_pytest_adds_to_the_path(monkeypatch):
    pytest.importorskip("transformers", reason="the extra `real` is not installed")
    tests = Path(__file__).parents[1]
    monkeypatch.setattr(sys, "path", [one for one in sys.path if Path(one).resolve() not in (tests, tests / "real")])
    for name in [name for name in sys.modules if name.split(".")[0] in ("real", "families")]:
        monkeypatch.delitem(sys.modules, name)
    assert len(MODELS["gpt2"]().example[1]) == 64


@pytest.mark.parametrize("model", ["mlp", "transformer"])
def test_what_is_written_for_jax_computes_the_same(model):
    pytest.importorskip("jax", reason="JAX is not installed")
    from batch_jax import kernels

    found = Truth.of(MODELS[model]())
    prepare, arrays = Preparation(found), BACKENDS["torch"].put(found.inputs(3), "cpu")
    for quantity in ("per_sample", "gradient"):
        (kernel,) = kernels(model, quantity)
        ready = prepare(kernel, Case(found.problem, quantity, 3, "float32"), arrays)
        assert ready.proof.error < 1e-6


def test_the_models_are_those_of_the_zoo_and_real_ones():
    assert {*ZOO, "bert", "gpt2", "llama", "vit", "llama_lora", "unet", "deep_mlp"} == {*MODELS}
