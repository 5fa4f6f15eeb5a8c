"""gk.watch: what is seen in a caller's own loop is what a backward pass for each sample says, or an error."""

from __future__ import annotations

import copy
import gc
import pickle
from random import Random

import pytest
import torch
from torch import nn
from torch.nn import functional

import gradkernels as gk
from gradkernels.engines.hooks.accumulate.accumulators import SquaredNorms
from gradkernels.engines.hooks.rules.linear.linear import Linear
from gradkernels.watch.backward import BackwardPass
from gradkernels.watch.calls_seen import SeenCall
from gradkernels.watch.completeness import compared
from tests.watched import MAKERS, Watched, cross_entropy, flat_gradient, mlp, rows_of

ALL = ["norms", "gram", "per_sample", "gradient", "moments", "noise_scale"]

pytestmark = pytest.mark.filterwarnings("ignore:Lazy modules", "ignore:LSTM with projections")


@pytest.fixture(params=list(MAKERS))
def watched(request):
    torch.manual_seed(0)
    return MAKERS[request.param]()


@pytest.fixture
def small():
    torch.manual_seed(0)
    return MAKERS["mlp"]()


def close(found, expected, tolerance=1e-4):
    assert found.shape == expected.shape
    assert float((found - expected).abs().max()) <= tolerance * float(expected.abs().max() + 1e-6)


def hooks_of(model):
    names = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")
    return sum(len(getattr(one, name)) for one in model.modules() for name in names)


def test_values_are_those_of_single_samples(watched):
    rows, model = rows_of(watched), watched.model
    watched.loss(model, *watched.batch).backward()
    plain = flat_gradient(model)
    model.zero_grad()
    with gk.watch(model, ALL) as seen:
        watched.loss(model, *watched.batch).backward()
    assert seen.n == len(rows)
    close(seen.norms, rows.norm(dim=1))
    close(seen.gram, rows @ rows.T)
    close(torch.cat([one.flatten(1) for one in seen.per_sample.values()], 1), rows)
    close(torch.cat([one.flatten() for one in seen.gradient.values()]), rows.mean(0))
    variance = rows.var(0, unbiased=False)
    close(torch.cat([one.flatten() for one in seen.moments.variance.values()]), variance)
    assert seen.noise_scale == pytest.approx(float(variance.sum() / rows.mean(0).square().sum()), rel=1e-3, abs=1e-5)
    close(flat_gradient(model), plain, 1e-5)
    assert not hooks_of(model)


def test_clip_puts_the_clipped_sum_in_place(watched):
    rows = rows_of(watched)
    limit = float(rows.norm(dim=1).median())
    expected = (rows * (limit / rows.norm(dim=1)).clamp(max=1)[:, None]).sum(0)
    with gk.watch(watched.model) as seen:
        watched.loss(watched.model, *watched.batch).backward()
        seen.clip(max_norm=limit)
    close(flat_gradient(watched.model), expected)


def test_values_are_those_of_the_library_at_every_step(small):
    problem = gk.ModuleProblem(small.model, nn.CrossEntropyLoss())
    optimizer = torch.optim.SGD(small.model.parameters(), 0.5)
    with gk.watch(small.model, {"norms": {}, "project": {"size": 7, "seed": 3}}) as seen:
        for n in (4, 3, 2):
            x, y = (one[:n] for one in small.batch)
            optimizer.zero_grad()
            cross_entropy(small.model, x, y).backward()
            close(seen.norms, gk.norms(problem, None, x, y, kernel="torch.loop"))
            close(seen.project, gk.project(problem, None, x, y, size=7, seed=3))
            optimizer.step()
    assert [(one.step, one.quantity) for one in seen.history] == [
        (step, name) for step in range(3) for name in ("norms", "project")
    ]
    assert seen.history[-2].summary["largest"] == pytest.approx(float(seen.norms.max()))
    assert list(seen.history.frame.columns) == ["step", "quantity", "summary", "value"]


def test_norms_by_group_and_inner_products(small):
    rows, (first, *_) = rows_of(small), small.model.parameters()
    v = {name: torch.randn_like(one) for name, one in small.model.named_parameters()}
    wanted = {"norms": {"by": {"first": ["0.*"], "last": "2.*"}}, "inner": {"v": v}}
    with gk.watch(small.model, wanted) as seen:
        cross_entropy(small.model, *small.batch).backward()
    of_first = first.numel() + 7
    close(seen.norms["first"], rows[:, :of_first].norm(dim=1))
    close(seen.norms["last"], rows[:, of_first:].norm(dim=1))
    close(seen.inner, rows @ torch.cat([one.flatten() for one in v.values()]))


def test_each_fiftieth_step_is_looked_at(small):
    looked = []
    with gk.watch(small.model, every=3) as seen:
        for _ in range(7):
            small.model.zero_grad()
            cross_entropy(small.model, *small.batch).backward()
            looked.append(seen.norms is not None)
    assert looked == [True, False, False, True, False, False, True]
    assert [one.step for one in seen.history] == [0, 3, 6]


def test_a_sum_is_scaled_as_it_is_said(small):
    rows = rows_of(small)
    with gk.watch(small.model, reduction="sum") as seen:
        functional.cross_entropy(small.model(small.batch[0]), small.batch[1], reduction="sum").backward()
    close(seen.norms, rows.norm(dim=1))


@pytest.mark.parametrize(("reduction", "said"), [("sum", "mean"), ("mean", "sum")])
def test_another_reduction_than_was_said_is_noticed(small, reduction, said):
    loss = functional.cross_entropy(small.model(small.batch[0]), small.batch[1], reduction=reduction)
    with gk.watch(small.model, reduction=said):
        loss = functional.cross_entropy(small.model(small.batch[0]), small.batch[1], reduction=reduction)
        with pytest.raises(gk.CannotWatch, match=f"the loss is the {reduction}"):
            loss.backward()


def test_a_loss_that_is_multiplied_asks_for_the_scale(small):
    rows = rows_of(small)
    with gk.watch(small.model), pytest.raises(gk.CannotWatch, match="pass scale="):
        (cross_entropy(small.model, *small.batch) / 4).backward()
    with gk.watch(small.model, scale=1 / 4) as seen:
        (cross_entropy(small.model, *small.batch) / 4).backward()
    close(seen.norms, rows.norm(dim=1))


@pytest.mark.parametrize("besides", ["a penalty", "a use outside"])
def test_what_is_left_out_of_the_rows_is_noticed(small, besides):
    with gk.watch(small.model):
        loss = cross_entropy(small.model, *small.batch)
        weight = small.model[0].weight
        more = weight.square().sum() if besides == "a penalty" else (small.batch[0] @ weight.T).mean()
        with pytest.raises(gk.CannotWatch, match=r"0\.weight do not add up"):
            (loss + 0.1 * more).backward()


def test_steps_of_several_backward_passes(small):
    rows, (x, y) = rows_of(small), small.batch
    with gk.watch(small.model, ["norms", "moments", "gradient", "gram"], scale=1 / 2) as seen:
        for _ in range(2):
            small.model.zero_grad()
            for part in (slice(0, 3), slice(3, 4)):
                (cross_entropy(small.model, x[part], y[part]) / 2).backward()
            close(seen.norms, rows[3:].norm(dim=1))
            seen.step()
            close(seen.norms, rows.norm(dim=1))
            close(torch.cat([one.flatten() for one in seen.gradient.values()]), rows.mean(0))
            close(torch.cat([one.flatten() for one in seen.moments.variance.values()]), rows.var(0, unbiased=False))
            with pytest.raises(gk.CannotWatch, match="gram of a step of several"):
                _ = seen.gram
    assert [one.step for one in seen.history if one.quantity == "norms"] == [0, 1]


def test_clipped_sums_add_up_over_backward_passes(small):
    rows, (x, y) = rows_of(small), small.batch
    expected = (rows * (0.5 / rows.norm(dim=1)).clamp(max=1)[:, None]).sum(0)
    with gk.watch(small.model) as seen:
        seen.clip(max_norm=0.5)
        for part in (slice(0, 3), slice(3, 4)):
            cross_entropy(small.model, x[part], y[part]).backward()
    close(flat_gradient(small.model), expected)


def test_what_was_left_unclipped_is_not_clipped_with_the_rest(small):
    with gk.watch(small.model) as seen:
        for _ in range(2):
            cross_entropy(small.model, *small.batch).backward()
        with pytest.raises(gk.CannotWatch, match="nothing was kept"):
            seen.clip(max_norm=0.5)


@pytest.mark.parametrize("rule", ["automatic", lambda norms: 1 / (1 + norms)])
def test_other_rules_of_clipping(small, rule):
    rows = rows_of(small)
    norms = rows.norm(dim=1)
    weights = 0.5 / (norms + 0.1) if rule == "automatic" else 1 / (1 + norms)
    with gk.watch(small.model) as seen:
        cross_entropy(small.model, *small.batch).backward()
        seen.clip(max_norm=0.5, rule=rule, gamma=0.1)
    close(flat_gradient(small.model), weights @ rows)


def test_clipping_by_parameter(small):
    rows, at, expected = rows_of(small), 0, []
    for one in small.model.parameters():
        part = rows[:, at : at + one.numel()]
        expected.append((part * (0.1 / part.norm(dim=1)).clamp(max=1)[:, None]).sum(0))
        at += one.numel()
    with gk.watch(small.model) as seen:
        seen.clip(max_norm=0.1, by="parameter")
        cross_entropy(small.model, *small.batch).backward()
    close(flat_gradient(small.model), torch.cat(expected))


def test_an_empty_batch_gives_empty_results_and_a_sum_of_zeros(small):
    x, y = small.batch
    with gk.watch(small.model, ALL) as seen:
        seen.clip()
        cross_entropy(small.model, x[:0], y[:0]).backward()
    assert seen.norms.shape == (0,)
    assert seen.gram.shape == (0, 0)
    assert seen.moments is None
    assert not flat_gradient(small.model).any()


def test_several_forward_passes_need_to_be_said_what_they_are(small):
    x, y = small.batch
    other = torch.randn(4, 5)
    model = small.model

    def loss(x, other, y):
        return functional.cross_entropy(model(x) + 2 * model(other), y)

    with gk.watch(model), pytest.raises(gk.CannotWatch, match="several forward passes"):
        loss(x, other, y).backward()
    pairs = rows_of(Watched(model, lambda model, *batch: loss(*batch), (x, other, y)))
    with gk.watch(model, passes="same") as seen:
        loss(x, other, y).backward()
    close(seen.norms, pairs.norm(dim=1))
    with gk.watch(model, passes="more") as seen:
        model.zero_grad()
        (cross_entropy(model, x, y) + cross_entropy(model, x[:3], y[:3])).backward()
    norms = rows_of(small).norm(dim=1)
    close(seen.norms, torch.cat([norms, norms[:3]]))


def test_a_forward_pass_that_nothing_comes_back_through_is_no_step(small):
    rows, model = rows_of(small), small.model
    with gk.watch(model) as seen:
        model(small.batch[0][:2])
        with torch.no_grad():
            model(small.batch[0][:1])
        cross_entropy(model, *small.batch).backward()
    close(seen.norms, rows.norm(dim=1))
    assert len(seen.history) == 1


def test_an_exception_leaves_the_model_as_it_was(small):
    model = small.model
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"), gk.watch(model):
        model(torch.randn(4, 6))
    assert not hooks_of(model)
    with pytest.raises(IndexError), gk.watch(model):
        model(small.batch[0])[9]
    assert not hooks_of(model)
    cross_entropy(model, *small.batch).backward()


def test_a_failed_forward_pass_is_followed_by_another(small):
    rows = rows_of(small)
    with gk.watch(small.model) as seen:
        with pytest.raises(RuntimeError):
            small.model(torch.randn(4, 6))
        cross_entropy(small.model, *small.batch).backward()
    close(seen.norms, rows.norm(dim=1))


def test_copies_and_pickles_of_a_watched_model_are_not_watched(small):
    with gk.watch(small.model) as seen:
        copies = copy.deepcopy(small.model), pickle.loads(pickle.dumps(small.model))
        for one in copies:
            cross_entropy(one, *small.batch).backward()
        assert seen.norms is None
    assert pickle.loads(pickle.dumps(small.model))(small.batch[0]).shape == (4, 3)


def test_watches_within_each_other(small):
    rows, other = rows_of(small), mlp()
    with gk.watch(small.model) as outer, gk.watch(other) as inner:
        (cross_entropy(small.model, *small.batch) + cross_entropy(other, *small.batch)).backward()
    close(outer.norms, rows.norm(dim=1))
    close(inner.norms, rows_of(small._replace(model=other)).norm(dim=1))
    with (
        gk.watch(small.model),
        gk.watch(small.model),
        pytest.raises(gk.CannotWatch, match="two watches follow one call"),
    ):
        small.model(small.batch[0])
    assert not hooks_of(small.model)


def test_dropout_is_as_it_was_drawn():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 8), nn.Dropout(0.5), nn.Linear(8, 3))
    x, y = torch.randn(4, 5), torch.randint(3, (4,))
    with gk.watch(model, ["per_sample"]) as seen:
        torch.manual_seed(1)
        cross_entropy(model, x, y).backward()
    torch.manual_seed(1)
    factors = functional.dropout(torch.ones(4, 8))
    expected = []
    for i in range(4):
        loss = functional.cross_entropy(model[2](model[0](x[i : i + 1]) * factors[i]), y[i : i + 1])
        expected.append(torch.cat([one.flatten() for one in torch.autograd.grad(loss, [*model.parameters()])]))
    close(torch.cat([one.flatten(1) for one in seen.per_sample.values()], 1), torch.stack(expected))


def test_autocast(small):
    rows = rows_of(small)
    with gk.watch(small.model) as seen:
        with torch.autocast("cpu", torch.bfloat16):
            loss = cross_entropy(small.model, *small.batch)
        loss.backward()
    close(seen.norms, rows.norm(dim=1), 0.05)


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("kind", ["steps", "images"])
def test_autocast_of_layers_with_several_products_a_sample(kind, backward):
    torch.manual_seed(0)
    steps = nn.Sequential(nn.Linear(5, 8), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, 8), nn.Flatten(), nn.Linear(48, 3))
    images = nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.Conv2d(4, 4, 2), nn.Flatten(), nn.Linear(36, 3)
    )
    model, shape = {"steps": (steps, (6, 5)), "images": (images, (2, 6, 6))}[kind]
    x, y = torch.randn(4, *shape), torch.randint(3, (4,))
    rows = rows_of(Watched(model, cross_entropy, (x, y)))
    names = ["norms", "gram", "per_sample", "moments"]
    with gk.watch(model, names) as seen, torch.autocast("cpu", torch.bfloat16):
        loss = cross_entropy(model, x, y)
        with torch.autocast("cpu", torch.bfloat16, enabled=backward):
            loss.backward()
    close(seen.norms, rows.norm(dim=1), 0.05)
    close(seen.gram, rows @ rows.T, 0.1)
    assert {one.dtype for one in seen.per_sample.values()} == {torch.float32}


def test_a_recurrent_network_under_autocast_is_refused():
    model = nn.GRU(5, 6)
    with gk.watch(model), torch.autocast("cpu", torch.bfloat16), pytest.raises(ValueError, match="runs under autocast"):
        model(torch.randn(4, 5, 5))


def test_the_inputs_own_gradient_is_the_callers():
    torch.manual_seed(0)
    model, x, y = mlp(), torch.randn(4, 5, requires_grad=True), torch.randint(3, (4,))
    (expected,) = torch.autograd.grad(cross_entropy(model, x, y), x)
    with gk.watch(model) as seen:
        (alone,) = torch.autograd.grad(cross_entropy(model, x, y), x)  # what an attack on the model asks for
        assert seen.norms is None
        cross_entropy(model, x, y).backward()
    close(alone, expected)
    close(x.grad, expected)
    close(seen.norms, rows_of(Watched(model, cross_entropy, (x.detach(), y))).norm(dim=1))


def test_a_model_that_mixes_samples_is_refused():
    class Centred(nn.Linear):
        def forward(self, x):
            h = super().forward(x)
            return h - h.mean(0)

    model = Centred(5, 3)
    with gk.watch(model), pytest.raises(ValueError, match="mean takes the samples together"):
        cross_entropy(model, torch.randn(4, 5), torch.randint(3, (4,))).backward()
    normed = nn.Sequential(nn.Linear(5, 3), nn.BatchNorm1d(3))
    with gk.watch(normed), pytest.raises(ValueError, match="normalises by the whole batch"):
        normed(torch.randn(4, 5))


def test_wrong_norms_are_found_by_the_audit(small, monkeypatch):
    squares = SquaredNorms.finish

    def exchanged(self):
        return squares(self).flip(0)

    monkeypatch.setattr(SquaredNorms, "finish", exchanged)
    with gk.watch(small.model), gk.audit("always"), pytest.raises(gk.CannotWatch, match="the norm of sample"):
        cross_entropy(small.model, *small.batch).backward()
    with gk.watch(small.model) as seen, gk.audit("off"):
        cross_entropy(small.model, *small.batch).backward()
    close(seen.norms, rows_of(small).norm(dim=1).flip(0))


def test_wrong_totals_are_found_at_the_first_step(small, monkeypatch):
    monkeypatch.setattr(Linear, "projected_factors", lambda self, target, g, left, right: None)
    monkeypatch.setattr(Linear, "total", lambda self, target, g: torch.zeros_like(self.targets[target].tensor))
    with gk.watch(small.model), pytest.raises(gk.CannotWatch, match="do not add up"):
        cross_entropy(small.model, *small.batch).backward()


def test_norms_whose_squares_leave_the_range(small):
    rows, (x, y) = rows_of(small), small.batch
    factors = torch.tensor([1.0, 1e-25, 1e25, 0.0])
    with gk.watch(small.model, reduction="sum") as seen:
        (functional.cross_entropy(small.model(x), y, reduction="none") * factors).sum().backward()
    found = seen.norms.double() / torch.tensor([1.0, 1e-25, 1e25, 1.0]).double()
    close(found, rows.norm(dim=1).double() * torch.tensor([1.0, 1.0, 1.0, 0.0]).double())


def test_a_second_backward_pass_through_the_same_graph(small):
    rows = rows_of(small)
    with gk.watch(small.model) as seen:
        loss = cross_entropy(small.model, *small.batch)
        for keep in (True, False):
            loss.backward(retain_graph=keep)
            close(seen.norms, rows.norm(dim=1))
    assert len(seen.history) == 2


def test_nothing_of_a_step_is_held_in_a_circle(small):
    def alive():
        return sum(type(one) in (SeenCall, BackwardPass) for one in gc.get_objects())  # of proxies no class is asked

    gc.collect()
    gc.disable()
    try:
        with gk.watch(small.model, ["norms", "moments"]):
            for _ in range(4):
                cross_entropy(small.model, *small.batch).backward()
        assert alive() == 0
    finally:
        gc.enable()


def test_an_error_of_a_backward_pass_does_not_reach_the_next(small):
    class Broken(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, g):
            raise OSError("broken")

    rows = rows_of(small)
    with gk.watch(small.model) as seen:
        loss = cross_entropy(small.model, *small.batch) + Broken.apply(small.model[0].bias).sum()
        with pytest.raises(OSError, match="broken"):
            loss.backward()
        small.model.zero_grad()
        cross_entropy(small.model, *small.batch).backward()
    close(seen.norms, rows.norm(dim=1))


def test_gradients_that_go_elsewhere_are_refused(small):
    with gk.watch(small.model), pytest.raises(gk.CannotWatch, match=r"not torch\.autograd\.grad"):
        torch.autograd.grad(cross_entropy(small.model, *small.batch), [*small.model.parameters()])


@pytest.mark.parametrize(
    ("quantity", "needed"),
    [("per_sample", 5 * 8 * 8), ("outer", 2 * 8 * 8 + 8 * 8 * 8), ("moments", 4 * 8 * 8), ("gram", (2 * 6 + 25) * 8)],
)
def test_a_batch_that_needs_more_memory_than_is_allowed_is_refused_before_it_runs(quantity, needed):
    model, calls = nn.Linear(3, 2, dtype=torch.float64), []
    x = torch.randn(5, 3, dtype=torch.float64)
    with gk.watch(model, [quantity], reduction="sum", max_bytes=needed) as seen:
        model(x).sum().backward()
        assert getattr(seen, quantity) is not None
    with gk.watch(model, [quantity], reduction="sum", max_bytes=needed - 1):
        model.register_forward_hook(lambda *given: calls.append(1))
        with pytest.raises(gk.CannotWatch, match=f"take at least {needed} bytes, {needed} of them for {quantity}"):
            model(x)
    assert not calls
    with pytest.raises(ValueError, match="max_bytes is '1 GB'; it must be a whole number of bytes"):
        gk.watch(model, max_bytes="1 GB")


def test_what_is_asked_for_is_checked(small):
    for given, says in (("norm", "norms"), ({"norms": {"size": 3}}, "no option 'size'"), ({"inner": {}}, "directions")):
        with pytest.raises(ValueError, match=says):
            gk.watch(small.model, given)
    with pytest.raises(ValueError, match="every is 0"):
        gk.watch(small.model, every=0)
    seen = gk.watch(small.model)
    with pytest.raises(AttributeError, match="gram is not among what is watched"):
        _ = seen.gram
    assert seen.norms is None
    with gk.watch(small.model, every=2) as seen, pytest.raises(gk.CannotWatch, match="every=1"):
        seen.clip()


def test_compiled_models_are_watched_without_the_compiler(small):
    torch.compiler.reset()  # it stops to compile a forward that others have had compiled often
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    rows, in_place = rows_of(small), copy.deepcopy(small.model)
    in_place.compile(backend=backend)
    for model in (torch.compile(small.model, backend=backend), in_place):
        with gk.watch(model, every=2) as seen:
            cross_entropy(model, *small.batch).backward()
            close(seen.norms, rows.norm(dim=1))
            model.zero_grad()
            cross_entropy(model, *small.batch).backward()
            assert seen.norms is None
        cross_entropy(model, *small.batch).backward()
    assert graphs  # the steps between were compiled
    assert not hooks_of(small.model)


class WithLoss(nn.Module):
    """A model that computes its loss itself, as those of transformers do."""

    def __init__(self):
        super().__init__()
        self.body = mlp()

    def forward(self, x, labels=None):
        logits = self.body(x)
        return {"loss": functional.cross_entropy(logits, labels) * 0.5, "logits": logits}


def test_a_loss_that_the_model_computes():
    torch.manual_seed(0)
    watched = Watched(WithLoss(), lambda model, x, y: model(x, labels=y)["loss"], MAKERS["mlp"]().batch)
    rows = rows_of(watched)
    with gk.watch(watched.model, scale=1) as seen:
        watched.loss(watched.model, *watched.batch).backward()
    close(seen.norms, rows.norm(dim=1))


def test_models_on_several_devices_are_refused(small):
    several = nn.DataParallel(small.model)
    several.device_ids = [0, 1]
    with pytest.raises(gk.CannotWatch, match="replicas"):
        gk.watch(several)
    with pytest.raises(gk.CannotWatch, match=r"must be a torch\.nn\.Module"):
        gk.watch(lambda x: x)


def test_what_is_shared_by_all_samples_is_to_be_named():
    class Mixed(nn.Linear):
        def forward(self, x, table):
            return super().forward(x) @ table

    torch.manual_seed(0)
    model, table = Mixed(5, 3), torch.randn(3, 3)
    x, y = MAKERS["mlp"]().batch
    with gk.watch(model), pytest.raises(gk.CannotWatch, match=r"argument 1 \(3, 3\).* shared="):
        model(x, table)
    rows = rows_of(Watched(model, lambda model, x, y: functional.cross_entropy(model(x, table), y), (x, y)))
    with gk.watch(model, shared=[1]) as seen:
        functional.cross_entropy(model(x, table), y).backward()
    close(seen.norms, rows.norm(dim=1))


def test_a_random_choice_of_parameters_is_compared_between():
    names = [str(number) for number in range(20)]
    assert [len(compared(names, passes, Random(0))) for passes in range(1, 9)] == [20, 20, 2, 20, 2, 2, 2, 20]
