"""The peers' copies of a model: made anew whenever the model, its modes, its settings or its loss are changed."""

import copy
import re

import pytest
import torch
from peer_keys import KEYS
from torch import nn

import gradkernels as gk
from gradkernels.engines import state_cache

pytest.importorskip("opacus")
pytest.importorskip("backpack")

X = torch.linspace(-1, 1, 30, dtype=torch.float64).sin().reshape(5, 6)
Y = torch.tensor([0, 2, 1, 0, 2])


class Scaled(nn.Module):
    """Divides by a number that is no tensor."""

    def __init__(self):
        super().__init__()
        self.tau, self.activation = 1.0, torch.tanh

    def forward(self, x):
        return self.activation(x) / self.tau


def small():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(6, 4), Scaled(), nn.Tanh(), nn.Linear(4, 3)).double().eval()


def rows_of(problem):
    """Rows `(n, p)` by one backward pass of torch for each sample."""
    parameters = list(problem.parameters().values())
    rows = []
    for i in range(len(X)):
        loss = problem.loss_fn(problem.model(X[i : i + 1]), Y[i : i + 1])
        rows.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters)]))
    return torch.stack(rows)


def require_right(key, problem, compute):
    """The compute gives what follows from the rows now."""
    rows, got = rows_of(problem), compute(problem.parameters(), X, Y)
    if key.endswith("per_sample"):
        torch.testing.assert_close(torch.cat([one.flatten(1) for one in got.values()], 1), rows)
    elif key.endswith("norms"):
        torch.testing.assert_close(got, rows.norm(dim=1))
    elif key.endswith("clipped_sum"):
        clipped = rows / rows.norm(dim=1, keepdim=True).clip(min=1.0)
        torch.testing.assert_close(torch.cat([one.flatten() for one in got.values()]), clipped.sum(0))
    else:
        torch.testing.assert_close(torch.cat([one.flatten() for one in got.variance.values()]), rows.var(0, False))


def replace_layer(problem):
    problem.model[3] = nn.Linear(4, 3).double()


def freeze(problem):
    problem.model[0].weight.requires_grad_(False)


def thaw(problem):
    problem.model[0].weight.requires_grad_(True)


def replace_parameter(problem):
    problem.model[0].bias = nn.Parameter(torch.full((4,), 0.3, dtype=torch.float64))


def weigh_classes(problem):
    problem.loss_fn.weight.copy_(torch.tensor([0.1, 1.0, 10.0]))


def heat(problem):
    problem.model[1].tau = 0.1


def bend(problem):
    problem.model[1].activation = torch.sin


def replace_activation(problem):
    problem.model[2] = nn.Sigmoid()


def hook(problem):
    problem.model[2].register_forward_hook(lambda module, given, output: 2 * output)


def smooth(problem):
    problem.loss_fn.label_smoothing = 0.3


def insert_layer(problem):
    problem.model.append(nn.Linear(3, 3).double())


CHANGES = (
    heat,
    bend,
    replace_activation,
    hook,
    smooth,
    insert_layer,
    replace_layer,
    freeze,
    thaw,
    replace_parameter,
    weigh_classes,
)


@pytest.mark.parametrize("key", KEYS)
def test_each_change_is_followed(key):
    loss = nn.CrossEntropyLoss(weight=torch.ones(3, dtype=torch.float64), reduction="sum")
    problem = gk.ModuleProblem(small(), loss, reduction="sum")
    compute = gk.kernel(key).build(problem)
    require_right(key, problem, compute)
    for change in CHANGES:
        change(problem)
        require_right(key, problem, compute)


@pytest.mark.parametrize("key", KEYS)
def test_both_modes_of_a_model_are_kept(key, monkeypatch):
    copies = []
    deepcopy = copy.deepcopy
    monkeypatch.setattr(copy, "deepcopy", lambda one: copies.append(type(one).__name__) or deepcopy(one))
    problem = gk.ModuleProblem(small(), nn.CrossEntropyLoss())
    problem.model[1] = nn.Identity()
    compute = gk.kernel(key).build(problem)
    for training in (True, False, True, False):
        problem.model.train(training)
        require_right(key, problem, compute)
    # In each mode one for the library, and one to look where samples go.
    assert copies.count("Sequential") == 4


def test_the_state_that_was_used_the_longest_ago_makes_room():
    problem = gk.ModuleProblem(small(), nn.CrossEntropyLoss())
    built = []
    of = state_cache.StateCache(problem, lambda name: built.append(name) or name)
    for name in ("a", "b", "c", "d", "a", "e", "a", "b"):
        assert of(name) == name
    assert built == ["a", "b", "c", "d", "e", "b"]
    assert of.kept() == ("d", "e", "a", "b")


def mirrored():
    return nn.Conv1d(6, 4, 3, padding=1, padding_mode="circular").double()


REPLACED = {
    "opacus.hooks.per_sample": "Opacus' rule for Conv1d (0) does not look at padding_mode",
    "opacus.ghost.norms": "Opacus' rule for Conv1d (0) does not look at padding_mode",
    "opacus.ghost.clipped_sum": "Opacus' rule for Conv1d (0) does not look at padding_mode",
    "backpack.batch.per_sample": "BackPACK does not look at padding_mode and padding by name of Conv1d (0)",
    "backpack.l2.norms": "BackPACK does not look at padding_mode and padding by name of Conv1d (0)",
    "backpack.variance.moments": "BackPACK does not look at padding_mode and padding by name of Conv1d (0)",
}
"""What is said of a layer that has taken the place of another after the kernel was built."""


@pytest.mark.parametrize("key", REPLACED)
def test_a_layer_that_a_library_gets_wrong_is_refused_whenever_it_comes(key):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = nn.Conv1d(6, 4, 3, padding=1), nn.Flatten(), nn.Linear(8, 3)
    problem = gk.ModuleProblem(nn.Sequential(*layers).double(), nn.CrossEntropyLoss())
    compute, x = gk.kernel(key).build(problem), X[:, :, None].expand(-1, -1, 2).sin()
    compute(problem.parameters(), x, Y)
    problem.model[0] = mirrored()
    with pytest.raises(ValueError, match=re.escape(REPLACED[key])):
        compute(problem.parameters(), x, Y)
