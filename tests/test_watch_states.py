"""Watched models that are another one at each call: by their buffers, a counter, or what they keep."""

import copy
import warnings

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import parametrizations, spectral_norm
from watched import flat_gradient

import gradkernels as gk

N = 6


class Counting(nn.Module):
    """Multiplies by the number of its calls."""

    def __init__(self):
        super().__init__()
        self.layer, self.calls = nn.Linear(4, 3), 0

    def forward(self, x):
        self.calls += 1
        return self.layer(x) * self.calls


class Decaying(nn.Module):
    """Divides by how many calls, or samples, there were."""

    def __init__(self, counts):
        super().__init__()
        self.layer, self.counts = nn.Linear(4, 3), counts
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x):
        self.seen += 1 if self.counts == "calls" else len(x)
        return self.layer(x) / self.seen


def batch():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(N, 4, generator=generator), torch.arange(N) % 3


def norms_before(model):
    """Each sample's norm by a backward pass through a copy of the model as it is now."""
    x, y = batch()
    lengths = []
    for i in range(N):
        alone = copy.deepcopy(model)
        cross_entropy(alone(x[i : i + 1]), y[i : i + 1]).backward()
        lengths.append(flat_gradient(alone).norm())
    return torch.stack(lengths)


def stepped(seen, model):
    """A step that moves weights far, so that a power iteration that has settled moves on too."""
    x, y = batch()
    cross_entropy(model(x), y).backward()
    with torch.no_grad():
        for one in model.parameters():
            one += torch.randn_like(one)
            one.grad = None
    return seen.norms


@pytest.mark.parametrize("normalized", [spectral_norm, parametrizations.spectral_norm])
def test_a_power_iteration_moves_on_and_samples_are_held_against_it_as_it_was(normalized):
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        model = nn.Sequential(normalized(nn.Linear(4, 8)), nn.Tanh(), nn.Linear(8, 3))
    twin = copy.deepcopy(model)
    with gk.audit("always"), gk.watch(model) as seen:
        for _ in range(5):
            twin.load_state_dict(model.state_dict())
            expected = norms_before(twin)
            torch.testing.assert_close(stepped(seen, model), expected, rtol=1e-4, atol=1e-6)


def test_a_model_that_counts_its_calls_is_refused_for_that():
    model = Counting()
    with gk.watch(model) as seen, pytest.raises(gk.CannotWatch, match="another gradient at each call, by a counter or"):
        stepped(seen, model)


def test_a_buffer_that_counts_calls_is_as_it_was():
    model = Decaying("calls")
    twin = copy.deepcopy(model)
    with gk.audit("always"), gk.watch(model) as seen:
        for _ in range(3):
            twin.load_state_dict(model.state_dict())
            expected = norms_before(twin)
            torch.testing.assert_close(stepped(seen, model), expected)
    assert model.seen == 3


def test_a_buffer_by_which_samples_depend_on_how_many_there_are_is_named():
    model = Decaying("samples")
    with gk.watch(model) as seen, pytest.raises(gk.CannotWatch, match="writes to its buffer seen in its forward pass"):
        stepped(seen, model)
    assert model.seen == N


def test_what_takes_samples_together_is_refused_with_what_there_is():
    """`gk.watch` has no kernel= to pass."""

    class Centred(nn.Linear):
        def forward(self, x):
            features = super().forward(x)
            return features - features.mean(0)

    model = Centred(4, 3)
    with gk.watch(model) as seen, pytest.raises(ValueError, match="gk.ModuleProblem take one sample at a time with"):
        stepped(seen, model)
