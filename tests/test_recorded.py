"""torch.recorded: what the hooks do as a line of operations, one recording for any number of samples."""

import gc
from functools import partial

import modules
import pytest
import torch
from matrices import matrix
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

import gradkernels as gk
from gradkernels.engines.hooks.errors import Unfit
from gradkernels.engines.recorded import recordings
from gradkernels.engines.recorded.uses import whole
from gradkernels.tree import leaves
from gradkernels.zoo import ZOO

QUANTITIES = ("gradient", "per_sample", "norms", "clipped_sum", "moments")


def by_loop(quantity, problem, x, y):
    """The quantity from one backward pass for each sample."""
    return gk.kernel(f"torch.loop+.{quantity}" if quantity != "per_sample" else "torch.loop.per_sample").build(problem)(
        problem.parameters(), x, y
    )


def recorded(quantity, problem, chunk=1 << 20):
    return gk.kernel(f"torch.recorded[chunk={chunk}].{quantity}").build(problem)


def kinds_of(compute):
    """What was recorded for each kind of input."""
    cells = [cell.cell_contents for cell in compute.__closure__]
    (own,) = (one for one in cells if isinstance(one, recordings.Recordings))
    return [*own._kinds.values()]


def agree(got, want, tolerance=1e-4):
    for one, other in zip(leaves(got), leaves(want), strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance * float(other.abs().max()))


@pytest.fixture
def traces(monkeypatch):
    """The numbers of samples of every trace, but for those of a pass for small variances."""
    made = []
    trace = recordings.Recordings._record_once

    def counted(self, passes, arguments, n, compiled):
        if not isinstance(self._make, partial):
            made.append(n)
        return trace(self, passes, arguments, n, compiled)

    monkeypatch.setattr(recordings.Recordings, "_record_once", counted)
    return made


@matrix("name,quantity", ZOO, QUANTITIES)
def test_one_recording_of_a_model_of_the_zoo_is_right_for_any_number(name, quantity, traces):
    problem = ZOO[name]()
    x, y = problem.example
    compute = recorded(quantity, problem)
    for n in (5, 2, 37, 1):
        agree(compute(problem.parameters(), x[:n], y[:n]), by_loop(quantity, problem, x[:n], y[:n]))
    assert len(traces) == 2


@matrix("make,quantity", modules.SHARED, QUANTITIES)
def test_shared_frozen_and_idle_parameters_are_right(make, quantity):
    problem = modules.problem(modules.seeded(make), 4)
    gk.check(f"torch.recorded.{quantity}", gk.Case(problem, quantity, 6, dtype="float64"))


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_chunks_of_a_batch_are_put_together(quantity, traces):
    problem = ZOO["mlp"]()
    x, y = problem.example
    got = recorded(quantity, problem, chunk=16)(problem.parameters(), x[:39], y[:39])
    agree(got, by_loop(quantity, problem, x[:39], y[:39]))
    assert len(traces) == 2


@pytest.mark.parametrize("quantity", ["per_sample", "norms"])
def test_results_are_written_to_the_memory_that_is_given(quantity):
    problem = ZOO["cnn"]()
    x, y = problem.example
    n, theta = 9, problem.parameters()
    if quantity == "norms":
        out = torch.full((n,), torch.nan)
    else:
        flat = torch.full((n, sum(one.numel() for one in theta.values())), torch.nan)
        parts = flat.split([one.numel() for one in theta.values()], 1)
        out = {name: part.unflatten(1, one.shape) for (name, one), part in zip(theta.items(), parts, strict=True)}
    assert recorded(quantity, problem)(theta, x[:n], y[:n], out=out) is out
    agree(out, by_loop(quantity, problem, x[:n], y[:n]))


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_results_are_ordinary_tensors_also_under_inference_mode(quantity):
    problem = ZOO["mlp"]()
    x, y = problem.example
    compute = recorded(quantity, problem)
    with torch.inference_mode():
        results = [compute(problem.parameters(), x[:4], y[:4]), compute(problem.parameters(), x[:5], y[:5])]
    for one in leaves(results[0]) + leaves(results[1]):
        assert not one.is_inference()
        assert not one.requires_grad
        one.add_(1).requires_grad_().sum().backward()


def test_a_run_of_batches_of_any_size_records_once(traces):
    problem = ZOO["mlp"]()
    x, y = problem.example
    generator = torch.Generator().manual_seed(0)
    for _ in range(1000):
        chosen = (torch.rand(64, generator=generator) < 0.25).nonzero().flatten()
        norms = gk.norms(problem, None, x[chosen], y[chosen], kernel="torch.recorded")
        assert len(norms) == len(chosen)
    assert len(traces) == 2


class Lengths(nn.Module):
    """Averages over a sequence of any length."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 3)

    def forward(self, x):
        return self.last(torch.tanh(self.first(x)).mean(1))


def test_lengths_are_recorded_each_and_few_are_kept(traces):
    problem = gk.ModuleProblem(Lengths(), functional.cross_entropy)
    compute, y = recorded("norms", problem), torch.randint(3, (6,))
    for length in (*range(2, 40), *range(2, 40)):
        x = torch.randn(6, length, 3)
        agree(compute(problem.parameters(), x, y), by_loop("norms", problem, x, y))
    assert len(traces) <= 2 * (recordings.MOST_RECORDED + 2 * 38 // recordings.UNUSED_CALLS + 1)


class Looping(nn.Module):
    """Has a loop that another number of samples makes longer."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, x):
        output = self.linear(x)
        for _ in range(len(x) // 5):
            output = output * 1.0
        return output


def test_what_depends_on_the_number_is_recorded_for_few_numbers(traces):
    problem = gk.ModuleProblem(Looping(), functional.cross_entropy)
    compute = recorded("per_sample", problem)
    for n in (4, 12, 7, 9, 23, 4):
        x, y = torch.randn(n, 4), torch.randint(3, (n,))
        agree(compute(problem.parameters(), x, y), by_loop("per_sample", problem, x, y))
    assert traces[2:] == [4, 12, 7]


class Branches(nn.Module):
    """Looks at its data."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, x):
        return self.linear(x) if x.sum() > 0 else -self.linear(x)


def test_where_data_decide_another_kernel_computes():
    problem = gk.ModuleProblem(Branches(), functional.cross_entropy)
    x, y = torch.rand(6, 4), torch.randint(3, (6,))
    for _ in range(2):
        with pytest.raises(Unfit, match=r"^torch\.recorded cannot record .*: the model's Python asks what its data"):
            recorded("norms", problem)(problem.parameters(), x, y)


class Difference(nn.Module):
    """A linear map of one step less that of another, from one call or from two."""

    def __init__(self, calls):
        super().__init__()
        self.linear, self.calls = nn.Linear(40, 40, bias=False), calls

    def forward(self, x):
        first, second = self.linear(x).unbind(1) if self.calls == 1 else map(self.linear, x.unbind(1))
        return first - second


@pytest.mark.parametrize("calls", [1, 2])
def test_what_follows_from_products_that_cancel_is_computed_again(calls):
    """Steps are almost alike, and their gradients opposite; but for one sample."""
    torch.manual_seed(0)
    problem = gk.ModuleProblem(Difference(calls), lambda output, y: (output * y).mean())
    first = torch.randn(6, 1, 40)
    x, y = torch.cat([first, first + 1e-4 * torch.randn(6, 1, 40)], 1), torch.randn(6, 40)
    y[3], x[3] = 1.0, torch.randn(2, 40)
    rows = torch.einsum("no,ni->noi", y.double(), (x[:, 0] - x[:, 1]).double()) / 40
    lengths = rows.flatten(1).norm(dim=1)
    theta = problem.parameters()
    torch.testing.assert_close(recorded("norms", problem)(theta, x, y).double(), lengths, rtol=2e-3, atol=0)
    bound = float(lengths.median())
    got = recorded("clipped_sum", problem)(theta, x, y, max_norm=bound)["linear.weight"]
    want = (rows * (bound / lengths).clamp(max=1)[:, None, None]).sum(0)
    torch.testing.assert_close(got.double(), want, rtol=0, atol=2e-3 * bound)


class Tied(nn.Module):
    """A table of words that is the last layer's weight too."""

    def __init__(self):
        super().__init__()
        self.words, self.middle, self.last = nn.Embedding(11, 4), nn.Linear(4, 4), nn.Linear(4, 11, bias=False)
        self.last.weight = self.words.weight

    def forward(self, x):
        return self.last(torch.tanh(self.middle(self.words(x)))).mean(1)


def test_norms_of_a_tied_table_need_no_rows_of_it(monkeypatch):
    from gradkernels.engines.hooks.accumulate import accumulators

    formed = []
    by_rows = accumulators.rows_from_terms
    monkeypatch.setattr(
        accumulators, "rows_from_terms", lambda terms, *given: formed.extend(terms) or by_rows(terms, *given)
    )
    problem = gk.ModuleProblem(Tied().eval(), functional.cross_entropy)
    x, y = torch.randint(11, (6, 5)), torch.randint(11, (6,))
    for quantity in ("norms", "clipped_sum"):
        agree(recorded(quantity, problem)(problem.parameters(), x, y), by_loop(quantity, problem, x, y))
    assert not formed


def test_the_graph_as_python_does_the_same(monkeypatch):
    from gradkernels.engines.recorded import executors

    problem = ZOO["transformer"]()
    x, y = problem.example
    want = recorded("norms", problem)(problem.parameters(), x[:6], y[:6])
    monkeypatch.setattr(executors, "by_interpreter", lambda graph: (_ for _ in ()).throw(RuntimeError("none")))
    agree(recorded("norms", problem)(problem.parameters(), x[:6], y[:6]), want, 1e-6)


class Dropping(nn.Module):
    """Draws, and takes a tensor that is an attribute."""

    def __init__(self):
        super().__init__()
        self.linear, self.drop, self.factor = nn.Linear(4, 3), nn.Dropout(0.5), torch.full((3,), 0.5)

    def forward(self, x):
        return self.drop(self.linear(x)) * self.factor


def test_what_the_interpreter_takes_but_cannot_run_is_run_as_python(monkeypatch):
    from gradkernels.engines.recorded import executors

    runs = []

    def failing(graph):
        as_python = executors.by_python(graph)

        def run(*arguments):
            runs.append(as_python(*arguments))  # writes, draws, and fails at the end
            raise RuntimeError("the following operation failed in the TorchScript interpreter")

        return run

    problem = gk.ModuleProblem(modules.seeded(Dropping), functional.cross_entropy, randomness="different")
    x, y = torch.randn(6, 4), torch.arange(6) % 3
    want = [recorded(quantity, problem)(problem.parameters(), x, y) for quantity in QUANTITIES]
    monkeypatch.setattr(executors, "by_interpreter", failing)
    state = torch.get_rng_state()
    for quantity, one in zip(QUANTITIES, want, strict=True):
        runs.clear()
        compute = recorded(quantity, problem)
        for _ in range(2):
            agree(compute(problem.parameters(), x, y), one, 1e-6)
        assert runs
        assert [bool(known.run) for known in kinds_of(compute)] == [True]
    assert torch.equal(torch.get_rng_state(), state)


class Cells(nn.Module):
    """A loop over a cell, whose weights are used at each step."""

    def __init__(self):
        super().__init__()
        self.cell, self.last = nn.GRUCell(4, 5), nn.Linear(5, 3)

    def forward(self, x):
        state = x.new_zeros(len(x), 5)
        for step in x.unbind(1):
            state = self.cell(step, state)
        return self.last(state)


class Thrice(nn.Module):
    """A map that is used three times, of one step and of several."""

    def __init__(self):
        super().__init__()
        self.map, self.last = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x):
        h = torch.tanh(self.map(torch.tanh(self.map(x))).mean(1))
        return self.last(torch.tanh(self.map(h)))


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_uses_of_one_map_are_recorded_as_one(quantity, monkeypatch):
    from gradkernels.engines.hooks.rules.linear.linear import Linear

    shapes = []
    write = Linear.write
    monkeypatch.setattr(
        Linear, "write", lambda self, target, g, *given, **options: shapes.append((target, *g.shape[1:]))
        or write(self, target, g, *given, **options)
    )  # fmt: skip
    problem = gk.ModuleProblem(modules.seeded(Thrice), functional.cross_entropy)
    x, y = torch.randn(6, 5, 4), torch.arange(6) % 3
    compute = recorded(quantity, problem)
    for n in (6, 4):
        agree(compute(problem.parameters(), x[:n], y[:n]), by_loop(quantity, problem, x[:n], y[:n]))
    steps = {shape for shape in shapes if shape[0] == "weight" and shape[-1] == 4}
    assert steps <= {("weight", 11, 4)}
    assert quantity != "per_sample" or steps


class Steps(nn.Module):
    """A recurrent network, whose output's mean over time is classified."""

    def __init__(self, kind, **settings):
        super().__init__()
        self.steps = kind(4, 5, batch_first=True, **settings)
        self.last = nn.Linear(10 if settings.get("bidirectional") else 5, 3)

    def forward(self, x):
        return self.last(self.steps(x)[0].mean(1))


class Words(nn.Module):
    """A table of words or bags of them."""

    def __init__(self, table):
        super().__init__()
        self.table, self.last = table, nn.Linear(4, 3)

    def forward(self, x):
        h = self.table(x)
        return self.last(torch.tanh(h if h.ndim == 2 else h.mean(1)))


class Checkpointed(nn.Module):
    """One layer in two parts that run again in the backward pass."""

    def __init__(self):
        super().__init__()
        self.first, self.middle, self.last = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x):
        h = torch.tanh(self.first(x.mean(1)))
        for _ in range(2):
            h = checkpoint(lambda given: torch.tanh(self.middle(given)), h, use_reentrant=False)
        return self.last(h)


STEPS, SHORT, LONG = torch.randn(6, 7, 4), torch.randint(20, (6, 9)), torch.randint(20, (6, 80))
MODELS = {
    "cells": (Cells, STEPS),
    "lstm": (lambda: Steps(nn.LSTM, num_layers=2, bidirectional=True), STEPS),
    "gru": (lambda: Steps(nn.GRU, num_layers=2), STEPS),
    "words": (lambda: Words(nn.Embedding(20, 4, padding_idx=2)), SHORT),
    "many words": (lambda: Words(nn.Embedding(20, 4)), LONG),
    "bag": (lambda: Words(nn.EmbeddingBag(20, 4, mode="sum", padding_idx=0)), SHORT),
    "largest of a bag": (lambda: Words(nn.EmbeddingBag(20, 4, mode="max")), SHORT),
    "bag of many": (lambda: Words(nn.EmbeddingBag(20, 4)), LONG),
    "checkpointed": (Checkpointed, STEPS),
}


@matrix("name,quantity", MODELS, QUANTITIES)
def test_loops_tables_and_checkpoints_are_recorded_for_any_number(name, quantity):
    make, x = MODELS[name]
    problem = gk.ModuleProblem(modules.seeded(make), functional.cross_entropy)
    compute, y = recorded(quantity, problem), torch.arange(6) % 3
    for n in (6, 3):
        agree(compute(problem.parameters(), x[:n], y[:n]), by_loop(quantity, problem, x[:n], y[:n]))
    assert [bool(known.run) for known in kinds_of(compute)] == [True]


# --- gradients are autograd's own


class Centred(nn.Linear):
    """Samples meet in what it makes of its inputs."""

    def forward(self, x):
        return super().forward(x - x.mean(0))


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch takes recurrent layers step by step here")
def test_a_gradient_takes_a_sequence_in_one_operation(monkeypatch):
    seen = []
    executor_of = recordings.executor_of
    monkeypatch.setattr(recordings, "executor_of", lambda graph, trial: seen.append(graph) or executor_of(graph, trial))
    problem = ZOO["lstm"]()
    x, y = (leaf[:6] for leaf in problem.example)
    for quantity in ("gradient", "norms"):
        agree(recorded(quantity, problem)(problem.parameters(), x, y), by_loop(quantity, problem, x, y))
    gradient, norms = (["mkldnn_rnn" in str(node.target) for node in graph.nodes] for graph in seen)
    assert (sum(gradient), any(norms)) == (2, False), "forward and backward"


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_gradient_is_right_where_the_caller_has_disabled_gradients(mode):
    problem = ZOO["lstm"]()
    x, y = (leaf[:6] for leaf in problem.example)
    with mode():
        found = recorded("gradient", problem)(problem.parameters(), x, y)
    agree(found, by_loop("gradient", problem, x, y))


@pytest.mark.parametrize(("model", "says"), [
    (lambda: nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 3)), "batch_norm with the statistics"),
    (lambda: Centred(4, 3), "mean takes the samples together"),
])  # fmt: skip
def test_a_gradient_of_samples_that_meet_is_refused_and_changes_no_buffer(model, says):
    problem = gk.ModuleProblem(modules.seeded(model).train(), functional.cross_entropy)
    before = {name: one.clone() for name, one in problem.model.named_buffers()}
    with pytest.raises(Unfit, match=says):
        recorded("gradient", problem)(problem.parameters(), torch.randn(6, 4), torch.arange(6) % 3)
    assert all(torch.equal(one, before[name]) for name, one in problem.model.named_buffers())


def test_what_runs_whole_is_known_as_long_as_a_recording_needs_it():
    def picture(size):
        model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2 * (size - 2) ** 2, 3))
        return gk.ModuleProblem(model, nn.CrossEntropyLoss()), torch.randn(6, 1, size, size), torch.arange(6) % 3

    gc.collect()
    before = len(whole._METHODS)
    for size in (5, 6, 7):
        problem, x, y = picture(size)
        compute, chosen = recorded("norms", problem), problem.parameters()
        compute(chosen, x, y)
        gc.collect()
        known = len(whole._METHODS)
        assert known > before
        assert known == len(whole._NAMES)
        agree(compute(chosen, x, y), by_loop("norms", problem, x, y))
        agree(compute(chosen, x[:4], y[:4]), by_loop("norms", problem, x[:4], y[:4]))
    del problem, compute, chosen
    gc.collect()
    assert len(whole._METHODS) == len(whole._NAMES) == before
