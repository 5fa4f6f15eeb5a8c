"""Gradients of a known graph's uses that wait for each other: squared together, and as right as one by one."""

import pytest
import torch
from torch import nn
from torch.nn import functional

import gradkernels as gk
from gradkernels.engines.hooks.rules.linear.linear import Linear
from gradkernels.watch import completeness
from gradkernels.watch.values import own_products, squared_norms
from gradkernels.watch.values.waiting_norms import WaitingNorms


class Reader(nn.Module):
    """Tables with padding, positions, two maps of one input, one without a bias, normalizations and a pooled head."""

    def __init__(self, dtype=torch.float64):
        super().__init__()
        torch.manual_seed(1)
        self.words, self.places = nn.Embedding(7, 40, padding_idx=0), nn.Embedding(6, 40)
        self.maps, self.last = nn.ModuleList(nn.Linear(40, 40) for _ in range(2)), nn.Linear(40, 40, bias=False)
        self.normed = nn.ModuleList(nn.LayerNorm(40) for _ in range(2))
        self.pool, self.head = nn.Linear(40, 5), nn.Linear(5, 3)
        self.to(dtype)

    def forward(self, words):
        x = self.words(words) + self.places(torch.arange(words.shape[1]))
        x = self.normed[0](x)
        x = self.normed[1](x + torch.tanh(self.maps[0](x)) * self.maps[1](x))
        x = torch.tanh(self.last(x))
        return self.head(torch.tanh(self.pool(x[:, 0])))


def batch(seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(7, (5, 6), generator=generator), torch.arange(5) % 3


def lengths(forward, inputs, y, model=None):
    """Norms by a pass for each sample alone."""
    found, trained = [], [one for one in (model or forward).parameters() if one.requires_grad]
    for i in range(len(y)):
        loss = functional.cross_entropy(forward(*(one[i : i + 1] for one in inputs)), y[i : i + 1])
        parts = torch.autograd.grad(loss, trained, allow_unused=True)
        found.append(sum(one.square().sum() for one in parts if one is not None).sqrt())
    return torch.stack(found)


@pytest.fixture
def together(monkeypatch):
    """How many uses were squared together, at each pass that knew its graph; None where they were not."""
    counts, squares = [], WaitingNorms.squares

    def counted(self, *given):
        found = squares(self, *given)
        counts.append(None if found is None else len(self.members))
        return found

    monkeypatch.setattr(WaitingNorms, "squares", counted)
    return counts


def watched_norms(model, batches, **how):
    """Norms of a watched step for each batch."""
    found = []
    with gk.watch(model, **how) as seen, gk.audit("off"):
        for x, y in batches:
            functional.cross_entropy(model(x), y).backward()
            found.append(seen.norms)
    return found


def test_norms_of_a_known_graph_are_those_of_single_samples(together):
    model, expected = Reader(), []
    batches = [batch(seed) for seed in range(4)]
    found = watched_norms(model, batches)
    for (x, y), norms in zip(batches, found, strict=True):
        expected.append(lengths(model, (x,), y))
        torch.testing.assert_close(norms, expected[-1], rtol=1e-9, atol=0)
    assert together == [9, 9, 9]


@pytest.mark.parametrize("kept", [0, 5 * 6 * 40 * 8 * 2])
def test_what_has_no_room_to_wait_is_squared_as_it_arrives(together, monkeypatch, kept):
    monkeypatch.setattr(squared_norms, "KEPT_GRADIENT_BYTES", kept)
    model = Reader()
    (*_, norms) = watched_norms(model, [batch(0), batch(1)])
    torch.testing.assert_close(norms, lengths(model, (batch(1)[0],), batch(1)[1]), rtol=1e-9, atol=0)
    assert together == [2 if kept else None]


def watch_again(model):
    for seed in range(1, 9):  # the third of five samples is in its place
        functional.cross_entropy(model(batch(seed)[0]), batch(seed)[1]).backward()


def test_wrong_norms_of_gradients_that_waited_are_found_by_the_audit(monkeypatch):
    squares = WaitingNorms.squares
    monkeypatch.setattr(WaitingNorms, "squares", lambda self, *given: squares(self, *given).flip(0))
    model = Reader()
    with gk.watch(model), gk.audit("always"):
        functional.cross_entropy(model(batch(0)[0]), batch(0)[1]).backward()
        with pytest.raises(gk.CannotWatch, match="the norm of sample"):
            watch_again(model)


def test_wrong_totals_of_gradients_that_waited_are_found(monkeypatch):
    model = Reader()
    with gk.watch(model), gk.audit("off"):
        functional.cross_entropy(model(batch(0)[0]), batch(0)[1]).backward()
        monkeypatch.setattr(Linear, "projected_factors", lambda self, target, g, left, right: None)
        monkeypatch.setattr(Linear, "total", lambda self, target, g: torch.zeros_like(self.targets[target].tensor))
        with pytest.raises(gk.CannotWatch, match="do not add up"):
            functional.cross_entropy(model(batch(1)[0]), batch(1)[1]).backward()


class Pair(nn.Module):
    """Two maps of two inputs, and what comes of each."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(2)
        self.maps = nn.ModuleList(nn.Linear(40, 40, dtype=torch.float64) for _ in range(2))

    def forward(self, x, z):
        return torch.tanh(self.maps[0](x)).mean(1)[:, :3], torch.tanh(self.maps[1](z)).mean(1)[:, :3]


class Sum(Pair):
    def forward(self, x, z):
        first, second = super().forward(x, z)
        return first + second


def test_inputs_that_were_one_in_the_first_pass_may_be_two_in_another(together):
    model, y = Sum(), torch.arange(5) % 3
    x, z = torch.randn(2, 5, 6, 40, dtype=torch.float64)
    with gk.watch(model) as seen, gk.audit("off"):
        for inputs in ((x, x), (z, z), (x, z)):
            functional.cross_entropy(model(*inputs), y).backward()
            torch.testing.assert_close(seen.norms, lengths(Sum(), inputs, y), rtol=1e-9, atol=0)
    assert together == [2, 2]


def test_where_one_of_those_that_wait_gets_nothing_the_others_are_squared_one_by_one(together):
    model, y = Pair(), torch.arange(5) % 3
    x, z = torch.randn(2, 5, 6, 40, dtype=torch.float64)
    with gk.watch(model) as seen, gk.audit("off"):
        sum(functional.cross_entropy(one, y) for one in model(x, z)).backward()
        functional.cross_entropy(model(x, z)[0], y).backward()
    torch.testing.assert_close(
        seen.norms, lengths(lambda *given: model(*given)[0], (x, z), y, model), rtol=1e-9, atol=0
    )
    assert together == [None]


def test_terms_that_cancel_have_their_digits_in_a_known_graph(together):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(40, 40), nn.Flatten(1), nn.Linear(80, 1))
    start, off = torch.randn(4, 1, 40), 1e-4 * torch.randn(4, 1, 40)
    with torch.no_grad():  # the second step's gradient is that of the first one with another sign
        model[2].weight[:, 40:] = -model[2].weight[:, :40]
    model[2].requires_grad_(False)
    x = torch.cat([start, start + off], 1)
    with gk.watch(model, reduction="sum") as seen:
        for _ in range(2):
            model(x).sum().backward()
    expected = off[:, 0].norm(dim=1) * model[2].weight[0, :40].norm()
    torch.testing.assert_close(seen.norms, expected, rtol=1e-3, atol=0)
    assert together == [1]


@pytest.mark.filterwarnings("ignore:Using backward")
def test_a_known_graph_is_gone_through_again_and_differentiated(together):
    model, (x, y) = Reader(), batch(0)
    expected = lengths(model, (x,), y)
    with gk.watch(model) as seen, gk.audit("off"):
        functional.cross_entropy(model(x), y).backward()
        loss = functional.cross_entropy(model(x), y)
        for _ in range(2):
            loss.backward(retain_graph=True)
            torch.testing.assert_close(seen.norms, expected, rtol=1e-9, atol=0)
        loss.backward(create_graph=True)
        torch.testing.assert_close(seen.norms, expected, rtol=1e-9, atol=0)
    assert together == [9, 9]
    model.zero_grad()


def test_norms_and_noise_scale_square_once(together):
    model, (x, y) = Reader(), batch(0)
    with gk.watch(model, ["norms", "noise_scale", "gradient"]) as seen, gk.audit("off"):
        for _ in range(2):
            model.zero_grad()
            functional.cross_entropy(model(x), y).backward()
    total = sum(one.grad.square().sum() for one in model.parameters())
    expected = lengths(model, (x,), y)
    torch.testing.assert_close(seen.norms, expected, rtol=1e-9, atol=0)
    assert seen.noise_scale == pytest.approx(float(expected.square().mean() / total - 1), rel=1e-9)
    assert together == [9]


@pytest.mark.parametrize("way", [own_products._as_it_is, own_products._with_zeros])
def test_products_with_zeros_beside_are_those_without(way):
    torch.manual_seed(0)
    for shape in ((3, 5, 7), (2, 4, 9), (3, 5, 7)):
        factor = torch.randn(shape)
        way(factor, out := torch.empty(*shape[:2], shape[1]))
        torch.testing.assert_close(out.double(), factor.double() @ factor.double().mT, rtol=1e-5, atol=1e-5)


def test_data_that_a_hook_writes_to_before_the_backward_pass_is_over_are_an_error():
    model = nn.Sequential(nn.Linear(40, 40), nn.Tanh(), nn.Linear(40, 3))
    x, y = torch.randn(5, 6, 40), torch.arange(5) % 3
    expected = lengths(lambda x: model(x).mean(1), (x,), y, model)

    def write(parameter):
        x.mul_(2)

    with gk.watch(model) as seen, gk.audit("off"):
        for _ in range(2):
            functional.cross_entropy(model(x).mean(1), y).backward()
        torch.testing.assert_close(seen.norms, expected, rtol=1e-4, atol=0)
        loss = functional.cross_entropy(model(x).mean(1), y)
        model[0].weight.register_post_accumulate_grad_hook(write)
        with pytest.raises(gk.CannotWatch, match="is written to before"):
            loss.backward()


@pytest.mark.parametrize("asked", [["norms"], ["moments"], ["gram"], []])
def test_data_that_are_written_to_before_a_first_step_or_its_clipping_is_over_are_an_error(asked):
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 3))
    x, y = torch.randn(5, 6, 4), torch.arange(5) % 3

    def write(parameter):
        x.mul_(2)

    with gk.watch(model, asked) as seen:
        loss = functional.cross_entropy(model(x).mean(1), y)
        if asked:
            model[0].weight.register_post_accumulate_grad_hook(write)
            with pytest.raises(gk.CannotWatch, match="is written to before"):
                loss.backward()
        else:
            loss.backward()
            x.mul_(2)
            with pytest.raises(gk.CannotWatch, match="is written to before"):
                seen.clip(0.1)


class Offset(nn.Module):
    """A map, and a number that is added to all of its outputs: before a softmax its gradients cancel in each sample."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.map, self.number = nn.Linear(40, 3), nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return self.map(x) + self.number


@pytest.mark.parametrize("kept", [0, completeness.KEPT_BYTES])
def test_sums_of_terms_that_cancel_are_held_against_the_sizes_of_these(monkeypatch, kept):
    monkeypatch.setattr(completeness, "KEPT_BYTES", kept)
    monkeypatch.setattr(completeness, "SHARE_PER_PASS", 1)
    model, y = Offset(), torch.arange(5) % 3
    with gk.watch(model) as seen, gk.audit("off"):
        for _ in range(3):
            functional.cross_entropy(model(torch.randn(5, 40)), y).backward()
        loss = functional.cross_entropy(model(torch.randn(5, 40)), y) + 1e-2 * model.number.sum()
        with pytest.raises(gk.CannotWatch, match="number do not add up"):
            loss.backward()
    assert len(seen.history) == 3
