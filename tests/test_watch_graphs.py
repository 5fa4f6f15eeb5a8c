"""Steps of a watch whose graph is that of an earlier one: nothing is followed, and values are right all the same."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

import gradkernels as gk
from gradkernels.engines.hooks.capture.tape import Tape


class Turning(nn.Module):
    """Maps, tables, a normalization and a convolution, and whatever is done between them."""

    def __init__(self, between=lambda x: x):
        super().__init__()
        torch.manual_seed(1)
        self.words, self.places = nn.Embedding(11, 6, padding_idx=0), nn.Embedding(8, 6)
        self.maps = nn.ModuleList(nn.Linear(6, 6, bias=bias) for bias in (True, False))
        self.normed, self.seen, self.head = nn.LayerNorm(6), nn.Conv1d(6, 4, 2), nn.Linear(4, 3)
        self.between = between
        self.register_buffer("calls", torch.zeros(()))
        self.double()

    def forward(self, words):
        self.calls += 1
        x = self.words(words) + self.places(torch.arange(words.shape[1]))
        for one in self.maps:
            x = x + functional.gelu(one(self.normed(x)))
        x = self.between(x)
        return self.head(torch.tanh(self.seen(x.mT)).mean(2))


def batch(seed, n=5):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(11, (n, 8), generator=generator), torch.arange(n) % 3


def lengths(model, x, y):
    """Norms by a pass for each sample alone."""
    calls = model.calls.clone()
    found = []
    for i in range(len(x)):
        loss = functional.cross_entropy(model(x[i : i + 1]), y[i : i + 1])
        parts = torch.autograd.grad(loss, [*model.parameters()], allow_unused=True)
        found.append(sum(one.square().sum() for one in parts if one is not None).sqrt())
    model.calls.copy_(calls)
    return torch.stack(found)


@pytest.fixture
def followed(monkeypatch):
    """Forward passes that were followed."""
    passes, init = [], Tape.__init__
    monkeypatch.setattr(
        Tape, "__init__", lambda self, *args, **kwargs: (passes.append(1), init(self, *args, **kwargs))[1]
    )
    return passes


def watch_steps(model, batches, followed):
    """Watch a step for each batch, hold norms against those of single samples, and return how often was followed."""
    counts = []
    with gk.watch(model) as seen, gk.audit("off"):
        for x, y in batches:
            functional.cross_entropy(model(x), y).backward()
            counts.append(len(followed))
            torch.testing.assert_close(seen.norms, lengths_unwatched(model, x, y), rtol=1e-9, atol=0)
    return counts


def lengths_unwatched(model, x, y):
    own = Turning(model.between)
    own.load_state_dict(model.state_dict())
    return lengths(own, x, y)


def test_the_first_step_is_followed_and_later_ones_are_known_by_their_graph(followed):
    model = Turning()
    counts = watch_steps(model, [batch(seed) for seed in range(4)], followed)
    assert counts == [1, 1, 1, 1]
    assert model.calls == 4


def test_another_number_of_samples_is_another_kind(followed):
    counts = watch_steps(Turning(), [batch(0), batch(1, n=7), batch(2), batch(3, n=7)], followed)
    assert counts == [1, 2, 2, 2]


def test_a_model_that_changes_its_way_is_followed_again(followed):
    ways = iter([lambda x: x, lambda x: x.flip(1), lambda x: x.flip(1), lambda x: 2 * x, lambda x: x])
    model = Turning()
    counts = []
    with gk.watch(model) as seen, gk.audit("off"):
        for seed in range(4):
            x, y = batch(seed)
            model.between = next(ways)
            functional.cross_entropy(model(x), y).backward()
            counts.append(len(followed))
            torch.testing.assert_close(seen.norms, lengths_unwatched(model, x, y), rtol=1e-9, atol=0)
    assert counts == [1, 2, 3, 4]
    assert model.calls == 4  # what runs again has copies of the buffers


def test_samples_that_change_their_order_from_one_step_to_the_next_are_noticed():
    model = Turning(lambda x: x.flip(1))
    x, y = torch.ones(8, 8, dtype=torch.long) * torch.arange(8)[:, None], torch.arange(8) % 3
    with gk.watch(model), gk.audit("off"):
        functional.cross_entropy(model(x), y).backward()
        model.between = lambda x: x.flip(0)
        with pytest.raises(ValueError, match="samples"):
            functional.cross_entropy(model(x), y).backward()


def test_what_an_index_picks_is_followed_each_time(followed):
    order = torch.tensor([1, 0, 2, 3, 4, 5, 6, 7])
    assert watch_steps(Turning(lambda x: x[:, order]), [batch(0), batch(1), batch(2)], followed) == [1, 2, 3]


class Branching(nn.Module):
    """A map of samples in their order, or turned round, as the data say; autograd's graph is the same."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.map = nn.Linear(3, 2).double()

    def forward(self, x):
        return self.map(x.flip(0) if (x > 100).any() else x)


def test_another_answer_to_a_branch_on_data_is_followed(followed):
    x, y = torch.arange(12.0, dtype=torch.float64).view(4, 3), torch.arange(4) % 2
    model = Branching()
    with gk.watch(model), gk.audit("off"):
        for scale in (1, 2, 3):
            functional.cross_entropy(model(scale * x), y).backward()
        assert len(followed) == 1
        with pytest.raises(ValueError, match="samples"):
            functional.cross_entropy(model(100 * x), y).backward()


def test_other_numbers_that_a_model_takes_from_tensors_are_followed_each_time(followed):
    number = torch.zeros(())
    batches = (batch(seed) for seed in range(3) if number.fill_(seed) is number)
    assert watch_steps(Turning(lambda x: x * float(number + 1)), batches, followed) == [1, 2, 3]


def test_random_numbers_are_those_of_the_callers_pass_when_it_runs_again():
    torch.manual_seed(3)
    model = Turning(lambda x: functional.dropout(x, 0.5))
    (x, y), after = batch(0), []
    for watched in (False, True):
        torch.manual_seed(5)
        if watched:
            with gk.watch(model):
                functional.cross_entropy(model(x), y).backward()
                model.between = lambda x: functional.dropout(2 * x, 0.5)
                output = model(x)
                functional.cross_entropy(output, y).backward()
        else:
            model(x)
            model.between = lambda x: functional.dropout(2 * x, 0.5)
            output = model(x)
            model.between = lambda x: functional.dropout(x, 0.5)
        after.append((output.detach(), torch.rand(3)))
    torch.testing.assert_close(after[0], after[1])


def test_replaced_parameters_are_followed_anew(followed):
    model, (x, y) = Turning(), batch(0)
    with gk.watch(model) as seen:
        functional.cross_entropy(model(x), y).backward()
        model.head = nn.Linear(4, 3).double()
        functional.cross_entropy(model(x), y).backward()
        expected = lengths_unwatched(model, x, y)
        torch.testing.assert_close(seen.norms, expected, rtol=1e-9, atol=0)
    assert len(followed) == 2


def test_a_model_that_writes_to_its_inputs_is_followed_each_time(followed):
    torch.manual_seed(0)
    model = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(3, 2))
    with gk.watch(model, reduction="sum") as seen:
        for _ in range(2):
            x = torch.randn(4, 3)
            model(x).sum().backward()
            expected = (2 * (x.square().sum(1) + 1)).sqrt()
            torch.testing.assert_close(seen.norms, expected)
    assert len(followed) == 2


def test_parameters_are_those_of_the_model_as_it_is_at_each_step():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    x, y = torch.randn(4, 3, dtype=torch.float64), torch.arange(4) % 3
    changes = [
        lambda: model[0].requires_grad_(False),
        lambda: model[0].bias.requires_grad_(),
        lambda: model.add_module("3", nn.Linear(3, 3).double()),
        lambda: setattr(model[3], "bias", None),
        lambda: setattr(model[0], "weight", nn.Parameter(model[0].weight.detach() * 2)),
    ]
    with gk.watch(model, {"norms": {}, "per_sample": {}}) as seen:
        for change in changes:
            change()
            functional.cross_entropy(model(x), y).backward()
            trained = {name: one for name, one in model.named_parameters() if one.requires_grad}
            assert seen.per_sample.keys() == trained.keys()
            expected, copied = [], copy.deepcopy(model)
            for i in range(4):
                copied.zero_grad()
                functional.cross_entropy(copied(x[i : i + 1]), y[i : i + 1]).backward()
                expected.append(sum(one.grad.square().sum() for one in copied.parameters() if one.requires_grad))
            torch.testing.assert_close(seen.norms, torch.stack(expected).sqrt())
        handle = model[3].weight.register_hook(lambda g: 2 * g)
        with pytest.raises(ValueError, match="register_hook"):
            model(x)
        handle.remove()


class WithLoss(nn.Module):
    """A model that computes the loss itself, and gives what that is of too."""

    def __init__(self):
        super().__init__()
        self.inner = Turning()

    def forward(self, x, y):
        output = self.inner(x)
        return functional.cross_entropy(output, y), output


def test_a_model_that_computes_its_loss_is_known_by_its_graph_whatever_the_classes_are(followed):
    model = WithLoss()
    batches = [batch(seed) for seed in range(3)]
    batches[2] = batches[2][0], 2 - batches[1][1]
    expected = [lengths_unwatched(model.inner, x, y) for x, y in batches]
    followed.clear()
    with gk.watch(model) as seen:
        for (x, y), norms in zip(batches, expected, strict=True):
            model(x, y)[0].backward()
            torch.testing.assert_close(seen.norms, norms, rtol=1e-9, atol=0)
    assert len(followed) == 1


def test_a_loss_over_samples_that_is_mixed_into_each_is_refused_at_each_step():
    class Mixed(WithLoss):
        def forward(self, x, y):
            loss, output = super().forward(x, y)
            return loss, output * loss

    model = Mixed()
    with gk.watch(model):
        for seed in range(2):
            with pytest.raises(ValueError, match="cross_entropy"):
                model(*batch(seed))[1].sum().backward()
