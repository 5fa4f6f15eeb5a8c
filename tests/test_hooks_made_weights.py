"""Weights that are made of parameters: masked, scaled, normalized, dropped; every quantity against single samples."""

import pytest
import torch
from every_quantity import CROSS_ENTROPY, require_equal
from matrices import matrix
from models import oracle
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, parametrize, prune

import gradkernels as gk
from gradkernels.engines.hooks import quantities
from gradkernels.engines.hooks.accumulate import accumulators, pulling
from gradkernels.engines.hooks.rules.made.remade import RemadeUse

N, T, D, H = 6, 5, 3, 4
WAYS = ("hooks", "recorded")
ROWS, STEPS, PLACES = (D,), (T, D), (D, T)


def normed(layer, **options):
    return parametrizations.weight_norm(layer, **options)


def stack(*layers, shape=ROWS):
    """Layers before a linear map to three classes."""
    body = nn.Sequential(*layers, nn.Tanh(), nn.Flatten())
    return nn.Sequential(body, nn.Linear(body(torch.zeros(2, *shape)).shape[1], 3))


class Own(nn.Module):
    """Makes its weights in the forward pass."""

    def __init__(self, program):
        super().__init__()
        self.program, self.weight, self.square = (
            program,
            nn.Parameter(torch.randn(H, D)),
            nn.Parameter(torch.randn(D, D)),
        )
        self.conv, self.words, self.head = nn.Conv1d(D, H, 1), nn.Parameter(torch.randn(9, D)), nn.Linear(H, 3)
        self.up, self.down = nn.Parameter(torch.randn(H, 2)), nn.Parameter(torch.randn(2, D))
        self.scale, self.row = nn.Parameter(torch.rand(())), nn.Parameter(torch.rand(D))
        self.layer, self.again = nn.LSTM(D, H, batch_first=True), normed(nn.Linear(H, H))
        self.register_buffer("mask", torch.rand(H, D).round())
        self.register_buffer("rows", torch.rand(H, 1, dtype=torch.float64))

    def forward(self, x):
        return self.head(self.program(self, x))


def masked(m, x):
    return F.linear(x, m.weight * m.mask)


def factors(m, x):
    scaled = F.linear(x, m.weight * 0.3) + F.linear(x, m.rows * m.weight) + x @ (2 * m.weight / 1.5).t()
    return scaled + F.conv1d(x[:, :, None], m.conv.weight / 2.0, m.conv.bias)[:, :, 0]


def table(m, x):
    return F.linear(F.embedding((x[:, 0] > 0).long(), m.words * 0.5), m.weight)


def both(m, x):
    return F.linear(x, m.weight * m.mask) + F.linear(x.sin(), m.weight)


def divided_by(m, x):
    return F.linear(x, m.rows / (2 + m.weight.square()))


def many_steps(m, x):
    return F.linear(x[:, None] * m.square, m.weight * m.mask).tanh().mean(1)


def used_twice(m, x):
    return m.again(torch.tanh(m.again(F.linear(x, m.weight))))


def used_once_made_once(m, x):
    with parametrize.cached():
        return used_twice(m, x)


def direction_used(m, x):
    return F.linear(used_twice(m, x), m.again.parametrizations.weight.original1)


def merged(m, x):
    """LoRA: a change of low rank that is scaled and added to the weight."""
    return F.linear(x, m.weight + 0.5 * (m.up @ m.down), m.conv.bias)


def merged_and_direct(m, x):
    return F.linear(F.linear(x, m.square), m.weight + m.up @ m.down) + x @ m.down.t() @ m.up.t()


def scaled(m, x):
    return F.linear(x, m.weight * m.scale / m.row.square().sum().sqrt(), m.conv.bias * 3 + 1)


def scaled_rows_and_columns(m, x):
    return F.linear(x, -m.conv.bias[:, None] * (m.weight - m.row.sigmoid()))


def centered(m, x):
    rows = m.weight - m.weight.mean(1, keepdim=True)
    return F.linear(x, rows - rows.sum(0) / 7 - rows.mean()) + x @ (1 - m.weight).t()


def divided_by_its_product(m, x):
    return F.linear(x, m.weight / torch.dot(m.conv.bias, torch.mv(m.weight, m.row)))


def many_ways(m, x):
    weight = m.weight
    for _ in range(4):
        weight = weight @ m.square + weight
    return F.linear(x, weight)


def made_scales(m, x):
    normed = F.layer_norm(x, (D,), 1 + m.row, m.row * 2)
    return F.linear(normed * (1 + m.row) + m.row.exp(), m.weight)


def made_of_a_part(m, x):
    return F.linear(x, m.weight * m.words[0].exp() + m.up[:, :1] @ m.square[1:2])


def steps_of_merged(m, x):
    steps = torch.stack([x, x.cos(), 2 * x], 1)
    return F.linear(steps, m.weight @ (m.square / m.square.sum()).T, 2 * m.conv.bias).tanh().mean(1)


def dropped(m, x):
    return F.linear(x, F.dropout(m.weight, 0.4, m.training))


def dropped_states(m, x):
    first, of = x.new_zeros(1, len(x), H), m.layer
    weights = [of.weight_ih_l0, F.dropout(of.weight_hh_l0, 0.5, m.training), of.bias_ih_l0, of.bias_hh_l0]
    return torch.lstm(torch.stack([x, x.sin()], 1), (first, first), weights, True, 1, 0.0, False, False, True)[1][0]


def drawn_mask(m, x):
    return F.linear(x, m.weight * (torch.rand_like(m.weight) < 0.5))


def pruned():
    layer = nn.Linear(D, H)
    prune.l1_unstructured(layer, "weight", amount=0.4)
    return layer


def frozen(part):
    """Weight norm whose lengths, 0, or directions, 1, are not trained."""
    model = stack(nn.Linear(D, D), normed(nn.Linear(D, H)))
    getattr(model[0][1].parametrizations.weight, f"original{part}").requires_grad_(False)
    return model


MODELS = {
    "frozen lengths": (lambda: frozen(0), ROWS),
    "frozen directions": (lambda: frozen(1), ROWS),
    "linear": (lambda: stack(normed(nn.Linear(D, H)), nn.Tanh(), normed(nn.Linear(H, H, bias=False))), ROWS),
    "columns": (lambda: stack(normed(nn.Linear(D, H), dim=1)), ROWS),
    "whole": (lambda: stack(normed(nn.Linear(D, H), dim=None)), ROWS),
    "one column": (lambda: stack(nn.Linear(D, 1), normed(nn.Linear(1, H))), ROWS),
    "steps": (lambda: stack(normed(nn.Linear(D, H)), shape=STEPS), STEPS),
    "convolution": (lambda: stack(normed(nn.Conv1d(D, H, 3)), shape=PLACES), PLACES),
    "groups": (lambda: stack(normed(nn.Conv1d(D, 2 * D, 3, groups=D)), shape=PLACES), PLACES),
    "transposed": (lambda: stack(normed(nn.ConvTranspose1d(D, H, 3)), shape=PLACES), PLACES),
    "spectral": (lambda: stack(parametrizations.spectral_norm(nn.Linear(D, H)).eval()), ROWS),
    "orthogonal": (lambda: stack(parametrizations.orthogonal(nn.Linear(D, D))), ROWS),
    **{one.__name__: (lambda one=one: Own(one), ROWS) for one in
       (masked, factors, table, both, divided_by, many_steps, used_twice, used_once_made_once, direction_used,
        merged, merged_and_direct, scaled, scaled_rows_and_columns, centered, divided_by_its_product, many_ways,
        made_scales, made_of_a_part, steps_of_merged)},
}  # fmt: skip
BY_HOOKS = {"old weight norm": lambda: stack(nn.utils.weight_norm(nn.Linear(D, H))), "pruned": lambda: stack(pruned())}


def made(make):
    torch.manual_seed(0)
    model = make().double()
    with torch.no_grad():
        for one in model.parameters():
            one += 0.1 * torch.randn_like(one)
    return model


def data(shape=ROWS):
    torch.manual_seed(1)
    return torch.randn(N, *shape, dtype=torch.float64), torch.arange(N) % 3


def single_samples(model, x, y, seed=0):
    """Rows by name, one backward pass for each sample alone, its draws begun anew: of models that cannot be copied."""
    rows = []
    for at in range(len(x)):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            loss = CROSS_ENTROPY(model(x[at : at + 1]), y[at : at + 1])
        rows.append(torch.autograd.grad(loss, [*model.parameters()], allow_unused=True, materialize_grads=True))
    names = [name for name, _ in model.named_parameters()]
    return {name: torch.stack([*of]) for name, of in zip(names, zip(*rows, strict=True), strict=True)}


@matrix("name,way", MODELS, WAYS)
def test_every_quantity(name, way):
    make, shape = MODELS[name]
    require_equal(way, made(make), *data(shape))


@pytest.mark.parametrize("name", ["spectral", "divided_by", "used_once_made_once", "direction_used"])
def test_rows_are_pulled_back_a_few_samples_at_a_time(name, monkeypatch):
    make, shape = MODELS[name]
    monkeypatch.setattr(pulling, "PULLED_BYTES", 300)
    require_equal("hooks", made(make), *data(shape))


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated:FutureWarning")
@pytest.mark.parametrize("name", BY_HOOKS)
def test_weights_that_a_hook_makes_anew(name):
    model, (x, y) = made(BY_HOOKS[name]), data()
    require_equal("hooks", model, x, y, rows=single_samples(model, x, y))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("program", [dropped, dropped_states, drawn_mask])
def test_one_draw_for_all_samples(program, way):
    model, (x, y) = made(lambda: Own(program)), data()
    rows = single_samples(model, x, y, seed=3)
    assert any((one == 0).any() and one.any() for one in rows.values())  # something was dropped
    require_equal(way, model, x, y, rows=rows, randomness="same", seed=3)


def test_a_draw_of_each_sample_is_left_to_others():
    problem = gk.ModuleProblem(made(lambda: Own(dropped)), CROSS_ENTROPY, randomness="different")
    with pytest.raises(ValueError, match="drawn for all samples together"):
        quantities.per_sample(problem, 99)(problem.parameters(), *data())


@pytest.mark.parametrize("quantity", ["norms", "clipped_sum"])
@pytest.mark.parametrize("make", [lambda: Own(masked), lambda: stack(normed(nn.Linear(D, H)))], ids=["mask", "norm"])
def test_norms_and_sums_of_linear_maps_form_no_rows(make, quantity, monkeypatch):
    def formed(*given):
        raise AssertionError("rows were formed")

    monkeypatch.setattr(RemadeUse, "write", formed)
    problem = gk.ModuleProblem(made(make), CROSS_ENTROPY)
    getattr(quantities, quantity)(problem, 99)(problem.parameters(), *data())


PULLED = {
    one.__name__: one for one in (merged, merged_and_direct, scaled, scaled_rows_and_columns, centered, made_scales)
}


@pytest.mark.parametrize("name", [*PULLED, "spectral"])
def test_weights_that_are_sums_of_products_need_no_rows_of_their_own(name, monkeypatch):
    def formed(*given):
        raise AssertionError("rows of a made weight were formed")

    monkeypatch.setattr(accumulators, "pull", formed)
    problem = gk.ModuleProblem(made(MODELS[name][0]), CROSS_ENTROPY)
    for quantity in ("per_sample", "norms", "clipped_sum", "gram"):
        gk.kernel(f"torch.hooks.{quantity}").build(problem)(problem.parameters(), *data())


def test_a_hook_of_the_model_on_a_made_weight_is_run_or_refused():
    def hooked(m, x):
        change = m.up @ m.down
        change.register_hook(lambda g: 2 * g)
        return F.linear(x, m.weight + change)

    def late(m, x):
        weight = m.weight + m.up @ m.down
        given = F.linear(x, weight)
        weight.register_hook(lambda g: 2 * g)
        return given

    model, (x, y) = made(lambda: Own(hooked)), data()
    require_equal("hooks", model, x, y, rows=single_samples(model, x, y))
    problem = gk.ModuleProblem(made(lambda: Own(late)), CROSS_ENTROPY)
    with pytest.raises(ValueError, match="after a layer has used it"):
        quantities.norms(problem, 99)(problem.parameters(), x, y)


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize(
    "make",
    [lambda m: m.weight * 3.0, lambda m: torch._weight_norm(m.weight, m.weight.detach()[:, :1], 0)],
    ids=["masked", "weight norm"],
)
def test_so_is_one_on_a_weight_whose_algebra_is_known(make, late):
    def program(m, x):
        weight = make(m)
        given = F.linear(x, weight) if late else None
        weight.register_hook(lambda g: 2 * g)
        return given if late else F.linear(x, weight)

    model, (x, y) = made(lambda: Own(program)), data()
    if not late:
        require_equal("hooks", model, x, y, rows=single_samples(model, x, y))
        return
    problem = gk.ModuleProblem(model, CROSS_ENTROPY)
    with pytest.raises(ValueError, match="after a layer has used it"):
        quantities.norms(problem, 99)(problem.parameters(), x, y)


def test_what_is_not_finite_stays_with_its_sample():
    problem, (x, y) = gk.ModuleProblem(made(lambda: Own(merged)), CROSS_ENTROPY), data()
    x[2] = torch.nan
    rows = quantities.per_sample(problem, 99)(problem.parameters(), x, y)
    found = quantities.norms(problem, 99)(problem.parameters(), x, y)
    others = torch.arange(N) != 2
    assert all(one[others].isfinite().all() for one in rows.values())
    assert found[2].isnan()
    assert found[others].isfinite().all()


@pytest.mark.parametrize("way", WAYS)
def test_a_row_along_its_own_direction_keeps_its_digits(way):
    """Inputs that are all but parallel to the weight: squares of products cancel, and the row is formed."""
    model = nn.Sequential(normed(nn.Linear(D, 1, bias=False)), nn.Linear(1, 3)).double()
    direction = model[0].parametrizations.weight.original1.detach()
    torch.manual_seed(2)
    x = direction + 1e-6 * torch.randn(N, D, dtype=torch.float64)
    for name, one in model.named_parameters():
        one.requires_grad_(name.endswith("original1"))
    problem, y = gk.ModuleProblem(model, CROSS_ENTROPY), torch.arange(N) % 3
    given = problem.parameters(), x, y
    (row,) = oracle(model, CROSS_ENTROPY, x, y).values()
    found = gk.kernel(f"torch.{way}.norms").build(problem)(*given)
    torch.testing.assert_close(found, row.flatten(1).norm(dim=1), rtol=1e-8, atol=0)
    assert (found > 0).all()
