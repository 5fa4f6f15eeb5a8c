"""torch.recorded of weighted sums and products of rows: right for any number of samples, whatever the options are."""

import every_quantity
import models as of_every_kind
import modules
import numpy as np
import pytest
import torch
from matrices import in_turn, matrix
from models import oracle
from torch import nn
from torch.nn import functional

import gradkernels as gk
from gradkernels.engines.hooks import pairs, symmetric
from gradkernels.engines.hooks import products as hooks
from gradkernels.engines.hooks.accumulate import products as accumulate
from gradkernels.engines.hooks.accumulate import random_matrices, weighted_sums
from gradkernels.engines.hooks.errors import Unfit
from gradkernels.engines.hooks.rules.linear import outer_products
from gradkernels.engines.hooks.rules.lookup import word_products
from gradkernels.engines.hooks.rules.lookup.embedding import add_terms
from gradkernels.engines.hooks.rules.lookup.sample_words import distinct_sample_words
from gradkernels.engines.recorded import recordings
from gradkernels.engines.recorded.uses import recorded_uses
from gradkernels.quantity import QUANTITIES, Draw
from gradkernels.tree import each, leaves
from gradkernels.zoo import ZOO

PRODUCTS = ("weighted_sum", "group_sums", "inner", "gram", "gram_by", "norms_by", "project")
CROSS_ENTROPY = nn.CrossEntropyLoss()


class Words(nn.Module):
    """A table that is the last layer's weight too, positions, a map that is used twice, and one of the mean."""

    def __init__(self):
        super().__init__()
        self.words, self.places = nn.Embedding(9, 4), nn.Parameter(torch.randn(5, 4))
        self.map, self.norm, self.last = nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 9, bias=False)
        self.last.weight = self.words.weight

    def forward(self, x):
        h = self.norm(self.words(x) + self.places)
        h = h + torch.tanh(self.map(torch.tanh(self.map(h))))
        return self.last(h).mean(1)[:, :3]


class Pictures(nn.Module):
    """Convolutions of both kinds and in groups, channels that are normalized, a weight with norm, a bilinear map."""

    def __init__(self):
        super().__init__()
        self.first, self.groups = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 2, groups=2)
        self.norm, self.back = nn.GroupNorm(2, 4), nn.ConvTranspose2d(4, 2, 2, stride=2)
        self.middle = nn.utils.parametrizations.weight_norm(nn.Linear(32, 4))
        self.last = nn.Bilinear(4, 2, 3)

    def forward(self, x):
        h = self.back(torch.tanh(self.norm(self.groups(torch.tanh(self.first(x))))))
        h = torch.tanh(self.middle(h.flatten(1)))
        return self.last(h, h[:, :2].square())


class Steps(nn.Module):
    """Maps of several steps, one wider than a sample has steps, and a table of few words, with its padding."""

    def __init__(self):
        super().__init__()
        self.table, self.wide = nn.Embedding(9, 3, padding_idx=0), nn.Linear(3, 40)
        self.lstm, self.last = nn.LSTM(40, 3, batch_first=True), nn.Linear(3, 3)

    def forward(self, x):
        return self.last(self.lstm(torch.tanh(self.wide(self.table(x))))[0][:, -1])


MODELS = {
    "mlp": (lambda: nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)), (4,)),
    "words": (Words, None),
    "pictures": (Pictures, (2, 3, 3)),
    "steps": (Steps, None),
}


def made(name, n=7, dtype=torch.float64, **settings):
    """A problem with samples, the same at every call."""
    make, shape = MODELS[name]
    problem = gk.ModuleProblem(modules.seeded(make).to(dtype), CROSS_ENTROPY, **settings)
    generator = torch.Generator().manual_seed(1)
    if shape is None:
        x = torch.randint(9, (n, 5), generator=generator)
    else:
        x = torch.randn(n, *shape, dtype=dtype, generator=generator)
    return problem, x, torch.arange(n) % 3


def asked_of(rows):
    """What there are recordings of, its options, and what it is of per-sample gradients."""
    return [one for one in every_quantity.products(rows) if one[0] in PRODUCTS]


def drawn(quantity, theta, n):
    """What a quantity needs, as tensors of theta's dtype; numbers of groups are numpy's."""
    dtype = next(iter(theta.values())).dtype

    def placed(value):
        floats = isinstance(value, np.ndarray) and value.dtype == np.float64
        return torch.from_numpy(value).to(dtype) if floats else value

    needs = QUANTITIES[quantity].needs(Draw(n, theta))
    return {name: each(placed, value) for name, value in needs.items()}


def by_loop(quantity, problem, x, y, **options):
    """The quantity from one backward pass for each sample."""
    return gk.kernel(f"torch.loop+.{quantity}").build(problem)(problem.parameters(), x, y, **options)


def recorded(quantity, problem, chunk=None):
    setting = "" if chunk is None else f"[chunk={chunk}]"
    return gk.kernel(f"torch.recorded{setting}.{quantity}").build(problem)


def close(found, want, says=""):
    torch.testing.assert_close(found, want, rtol=1e-8, atol=1e-10, msg=lambda message: f"{says}: {message}")


@pytest.fixture
def traces(monkeypatch):
    """The numbers of samples of every trace."""
    made, trace = [], recordings.Recordings._record_once
    monkeypatch.setattr(
        recordings.Recordings, "_record_once", lambda self, *given: made.append(given[2]) or trace(self, *given)
    )
    return made


@pytest.mark.parametrize("name", ["words", "pictures", "steps"])
def test_all_are_right_for_any_number_and_recorded_once(name, traces):
    problem, x, y = made(name)
    rows, theta = oracle(problem.model, CROSS_ENTROPY, x, y), problem.parameters()
    computes = [recorded(quantity, problem) for quantity, *_ in in_turn(asked_of(rows), 2)]
    for n in (7, 1, 2):
        asked = in_turn(asked_of({key: one[:n] for key, one in rows.items()}), 2)
        for compute, (quantity, options, want) in zip(computes, asked, strict=True):
            close(compute(theta, x[:n], y[:n], **options), want, f"{quantity} of {n}")
    assert len(traces) == 2 * len(computes)


def test_chunks_of_a_batch_are_put_together():
    problem, x, y = made("mlp")
    for quantity, options, want in asked_of(oracle(problem.model, CROSS_ENTROPY, x, y)):
        if not quantity.startswith("gram"):
            close(recorded(quantity, problem, chunk=3)(problem.parameters(), x, y, **options), want, quantity)


@matrix("make,quantity", [modules.Tied, modules.Unused, modules.frozen], PRODUCTS)
def test_every_one_is_proven(make, quantity):
    problem = modules.problem(modules.seeded(make), 4)
    gk.check(f"torch.recorded.{quantity}", gk.Case(problem, quantity, 6, dtype="float64"))


def left_out(consumer):
    """A consumer that gets no gradient of the layer that comes last."""
    call = consumer.__call__

    def without(self, use, g):
        if g.shape[-1] != 3:
            call(self, use, g)

    return without


FAULTS = {
    "inner": (accumulate.RowsAlong, "__call__", left_out(accumulate.RowsAlong)),
    "gram": (accumulate.RowGrams, "__call__", left_out(accumulate.RowGrams)),
    "gram_by": (accumulate.RowGrams, "__call__", left_out(accumulate.RowGrams)),
    "norms_by": (accumulate.SquaredNormsByParameter, "__call__", left_out(accumulate.SquaredNormsByParameter)),
    "group_sums": (weighted_sums.GroupSums, "__call__", left_out(weighted_sums.GroupSums)),
    "weighted_sum": (
        weighted_sums.SeveralRowSums, "__init__",
        lambda self, theta, weights, make=weighted_sums.SeveralRowSums.__init__: make(self, theta, weights.roll(1, 0)),
    ),
    "project": (
        recorded_uses.RecordedLinear, "projected_factors",
        lambda self, target, g, outputs, inputs: None if target == "bias" else (
            self.use.factors(g)[0][:, None] @ outputs.T, self.use.factors(g)[1][:, None].flip(2) @ inputs.T
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("quantity", FAULTS)
def test_a_fault_is_found(quantity, monkeypatch):
    """A layer is left out, weights are other samples', a matrix is turned round."""
    problem = modules.problem(nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)), 4)
    case = gk.Case(problem, quantity, 6, dtype="float64")
    gk.check(f"torch.recorded.{quantity}", case)
    monkeypatch.setattr(*FAULTS[quantity])
    with pytest.raises(gk.Disagreement):
        gk.check(f"torch.recorded.{quantity}", case)


def test_a_run_of_batches_of_any_size_records_once(traces):
    problem = ZOO["mlp"]()
    x, y = problem.example
    v = {name: torch.ones_like(one) for name, one in problem.parameters().items()}
    first = 8
    for n in (64, *range(2, 40, 3)):
        gram = gk.gram(problem, None, x[:n], y[:n], kernel="torch.recorded")
        inner = gk.inner(problem, None, x[:n], y[:n], v, kernel="torch.recorded")
        assert (tuple(gram.shape), tuple(inner.shape)) == ((n, n), (n,))
        first = min(first, len(traces)) if n == 64 else first
    assert len(traces) == first


def test_options_are_arguments_of_one_recording_but_for_those_that_decide_shapes(traces):
    problem, x, y = made("mlp")
    theta = problem.parameters()
    computes = {quantity: recorded(quantity, problem) for quantity in PRODUCTS}

    def require(quantity, times, **options):
        close(computes[quantity](theta, x, y, **options), by_loop(quantity, problem, x, y, **options))
        assert len(traces) == 2 * times

    def direction(*leading):
        return {name: torch.randn(*leading, *one.shape, dtype=one.dtype) for name, one in theta.items()}

    require("inner", 1, v=direction())
    require("inner", 1, v=direction())
    require("inner", 2, v=direction(3))
    require("weighted_sum", 3, weights=torch.randn(7).double())
    require("weighted_sum", 3, weights=torch.randn(14).double()[::2])
    require("group_sums", 4, groups=np.arange(7) % 2, count=3)
    require("group_sums", 4, groups=np.arange(7) % 3, count=3)
    require("group_sums", 5, groups=np.arange(7) % 3, count=4)
    require("project", 6, size=6, seed=0, kind="factored")
    require("project", 6, size=6, seed=5, kind="factored")
    require("project", 7, size=6, seed=5, kind="gaussian")
    names = [*theta]
    require("norms_by", 8, by=(("one", (names[0],)), ("others", tuple(names[1:]))))
    require("norms_by", 9, by=(("all", tuple(names)),))
    require("norms_by", 9, by=(("one", (names[0],)), ("others", tuple(names[1:]))))


def test_few_values_of_what_decides_a_recording_are_kept(traces, monkeypatch):
    monkeypatch.setattr(recordings, "MOST_RECORDED", 2)
    problem, x, y = made("mlp")
    compute, groups = recorded("group_sums", problem), np.arange(7) % 2
    for count in (2, 3, 4, 5, 2, 3):
        sums = compute(problem.parameters(), x, y, groups=groups, count=count)
        assert all(len(one) == count for one in sums.values())
    assert len(traces) == 4


def test_two_batches_are_one_recording_too(traces):
    problem, x, y = made("mlp")
    rows = oracle(problem.model, CROSS_ENTROPY, x, y)
    flat = torch.cat([one.flatten(1) for one in rows.values()], 1)
    compute = recorded("gram", problem)
    for n in (2, 4):
        close(compute(problem.parameters(), x[:n], y[:n], other=(x[n:], y[n:])), flat[:n] @ flat[n:].T)
    close(compute(problem.parameters(), x, y), flat @ flat.T)
    assert len(traces) == 2


def test_a_model_that_changes_is_recorded_again(traces):
    problem, x, y = made("mlp")
    computes = [recorded(quantity, problem) for quantity in ("gram", "norms_by")]
    for change in (lambda: None, lambda: problem.model[0].weight.requires_grad_(False), problem.model.train):
        change()
        theta = problem.parameters()
        by = tuple((name, (name,)) for name in theta)
        for compute, options in zip(computes, ({}, {"by": by}), strict=True):
            name = "gram" if not options else "norms_by"
            close(compute(theta, x, y, **options), by_loop(name, problem, x, y, **options))
    assert len(traces) >= 8


@matrix("quantity,randomness", PRODUCTS, ["same", "different"])
def test_what_is_drawn_is_what_the_hooks_draw(quantity, randomness):
    model = modules.seeded(lambda: nn.Sequential(nn.Linear(4, 6), nn.Dropout(0.5), nn.Linear(6, 3))).train()
    problem = gk.ModuleProblem(model.double(), functional.cross_entropy, randomness=randomness, seed=3)
    x, y = torch.randn(6, 4, dtype=torch.float64), torch.arange(6) % 3
    options = drawn(quantity, problem.parameters(), 6)
    found, want = (
        gk.kernel(f"torch.{way}.{quantity}").build(problem)(problem.parameters(), x, y, **options)
        for way in ("recorded", "hooks")
    )
    for one, other in zip(leaves(found), leaves(want), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("quantity", PRODUCTS)
def test_results_are_ordinary_tensors_also_under_inference_mode(quantity):
    problem, x, y = made("mlp", dtype=torch.float32)
    options = drawn(quantity, problem.parameters(), 7)
    with torch.inference_mode():
        found = recorded(quantity, problem)(problem.parameters(), x, y, **options)
    for one in leaves(found):
        assert not one.is_inference()
        one.add_(1).requires_grad_().sum().backward()


def test_norms_of_groups_whose_squares_leave_the_range_are_computed_again():
    problem = gk.ModuleProblem(modules.seeded(lambda: nn.Linear(4, 3)), lambda output, y: (output * y).sum(1).mean())
    x, y = torch.randn(6, 4), torch.randn(6, 3)
    y[2:4] *= 1e-28
    found = recorded("norms_by", problem)(problem.parameters(), x, y, by=(("w", ("weight",)), ("b", ("bias",))))
    lengths = y.double().norm(dim=1)
    torch.testing.assert_close(found["b"].double(), lengths, rtol=1e-5, atol=0)
    torch.testing.assert_close(found["w"].double(), lengths * x.double().norm(dim=1), rtol=1e-5, atol=0)


def test_products_of_gradients_of_zero_are_not_computed_again(monkeypatch):
    monkeypatch.setattr(pairs, "gram_by", lambda problem, chunk: None)
    problem = gk.ModuleProblem(modules.seeded(lambda: nn.Linear(4, 3)), lambda output, y: (output * y).sum(1).mean())
    compute = recorded("gram", problem)
    x, y = torch.randn(6, 4), torch.randn(6, 3)
    y[2:4] = 0
    found = compute(problem.parameters(), x, y)
    torch.testing.assert_close(found, (y @ y.T) * (x @ x.T + 1), rtol=1e-5, atol=1e-6)
    assert not found[2:4].any()
    x[4] = 0  # a gradient of zero over the weight alone
    by = (("weight", ("weight",)), ("bias", ("bias",)))
    found = recorded("gram_by", problem)(problem.parameters(), x, y, by=by)
    want = {"weight": (y @ y.T) * (x @ x.T), "bias": y @ y.T}
    torch.testing.assert_close(found, want, rtol=1e-5, atol=1e-6)


def test_matrices_that_are_too_large_to_be_kept_are_another_kernels(monkeypatch):
    monkeypatch.setattr(random_matrices, "MOST_MATRIX_BYTES", 1000)
    problem, x, y = made("mlp")
    theta = problem.parameters()
    with pytest.raises(Unfit, match=r"here 6,120 bytes, and at most "):
        recorded("project", problem)(theta, x, y, size=15)
    found = hooks.project(problem, 9)(theta, x, y, size=15)
    close(found, by_loop("project", problem, x, y, size=15))


def test_products_over_words_are_those_of_the_rows_of_a_table(monkeypatch):
    """Words that nearly all samples name, that few do, and that one does, many at a time and one by one."""
    torch.manual_seed(0)
    often, few = torch.randint(3, (40, 5)), torch.randint(3, 60, (40, 6))
    words, terms = torch.cat([often, few], 1), torch.randn(40, 11, 4, dtype=torch.float64)
    rows = torch.zeros(40, 60, 4, dtype=torch.float64)
    add_terms(rows, words, terms)
    occurring = distinct_sample_words(words, 60)
    for size in (1, word_products.WORD_PRODUCT_BYTES):
        monkeypatch.setattr(word_products, "WORD_PRODUCT_BYTES", size)
        found = word_products.products_over_words(occurring, occurring.sums(terms.flatten(0, 1)), 40)
        close(found, rows.flatten(1) @ rows.flatten(1).T)


def test_rows_are_formed_and_multiplied_a_few_outputs_at_a_time(monkeypatch):
    rows, columns = torch.randn(6, 5, 7, dtype=torch.float64), torch.randn(6, 5, 3, dtype=torch.float64)
    flat = (rows.mT @ columns).flatten(1)
    for size in (1, 6 * 3 * 8 * 4, 1 << 24):
        monkeypatch.setattr(outer_products, "ROW_BYTES", size)
        close(outer_products.gram_by_rows(rows, columns), flat @ flat.T)


def test_products_of_rows_are_symmetric_to_the_last_bit():
    rows = torch.randn(2 * symmetric.SIDE + 17, 5)
    found = symmetric.products_of_rows(rows)
    assert torch.equal(found, found.T)
    torch.testing.assert_close(found, rows @ rows.T)


@pytest.mark.parametrize("way", ["hooks", "recorded"])
@pytest.mark.parametrize("groups", [3, 20])
def test_groups_of_many_samples_and_of_few(way, groups):
    problem, x, y = made("steps", n=24)
    numbers = np.random.default_rng(0).integers(0, groups, 24)
    numbers[:3] = 0  # alone, and some groups are empty
    compute = gk.kernel(f"torch.{way}.group_sums").build(problem)
    found = compute(problem.parameters(), x, y, groups=numbers, count=21)
    close(found, by_loop("group_sums", problem, x, y, groups=numbers, count=21))


def test_what_is_not_a_number_stays_in_its_group():
    problem, x, y = made("mlp", n=8)
    x[3] = torch.nan
    for way in ("hooks", "recorded"):
        compute = gk.kernel(f"torch.{way}.group_sums").build(problem)
        sums = compute(problem.parameters(), x, y, groups=np.arange(8) % 2, count=2)
        assert [one.isnan().any(1).any().item() for one in sums["0.weight"]] == [False, True]


def test_products_of_which_one_factor_leaves_the_range_are_computed_again():
    problem = gk.ModuleProblem(modules.seeded(lambda: nn.Linear(4, 3)), lambda output, y: (output * y).sum(1).mean())
    x, y = torch.randn(6, 4), torch.randn(6, 3)
    want = (y @ y.T) * (x @ x.T)
    for unit in (2.0**80, 2.0**-80):
        found = recorded("gram", problem)(problem.parameters(), x * unit, y / unit)
        exact = want + (y @ y.T) / unit**2
        torch.testing.assert_close(found, exact, rtol=1e-5, atol=1e-5 * float(exact.abs().max()))


@pytest.mark.parametrize("quantity", ["gradient", "weighted_sum"])
def test_parts_that_run_again_have_the_parameters_of_the_call(quantity):
    torch.manual_seed(0)
    model, loss, x, y = of_every_kind.MODELS["checkpoint"](5)
    model.head.weight.requires_grad_(False)
    problem = gk.ModuleProblem(model.double(), loss)
    theta = {name: torch.randn_like(one) for name, one in problem.parameters().items()}
    options = {"weights": torch.full((5,), 0.2, dtype=torch.float64)} if quantity == "weighted_sum" else {}
    found = gk.kernel(f"torch.recorded.{quantity}").build(problem)(theta, x.double(), y, **options)
    model.load_state_dict(theta, strict=False)
    for name, rows in oracle(model, loss, x, y).items():
        torch.testing.assert_close(found[name], rows.mean(0), rtol=1e-9, atol=1e-12)
