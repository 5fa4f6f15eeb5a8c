"""Whether targets are left out of a loss: told by the least of them first, which must not miss any."""

import pytest
import torch
from torch import nn
from torch.nn import functional

import gradkernels as gk
from gradkernels.problems.module.sample_losses import has_ignored_targets

CASES = [
    (functional.cross_entropy, [3, 0, 2], False),
    (functional.cross_entropy, [3, -100, 2], True),
    (functional.cross_entropy, [-101, 2], False),
    (functional.cross_entropy, [-101, -100], True),
    (functional.cross_entropy, [], False),
    (nn.CrossEntropyLoss(ignore_index=0), [1, 0, 2], True),
    (nn.CrossEntropyLoss(ignore_index=0), [1, 3, 2], False),
    (nn.CrossEntropyLoss(ignore_index=2), [1, 2, 0], True),
    (nn.CrossEntropyLoss(ignore_index=2), [1, 3, 0], False),
    (nn.CrossEntropyLoss(ignore_index=2), [2], True),
]


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32], ids=str)
@pytest.mark.parametrize(("loss", "targets", "want"), CASES)
def test_ignored_targets_are_found(loss, targets, want, dtype):
    assert has_ignored_targets(loss, torch.tensor(targets, dtype=dtype)) is want


def test_targets_that_are_no_classes_are_never_ignored():
    assert not has_ignored_targets(functional.mse_loss, torch.full((3,), -100.0))


@pytest.mark.parametrize("way", ["torch.hooks", "torch.recorded"])
@pytest.mark.parametrize("ignored", [-100, 0, 2])
def test_the_mean_of_a_sample_is_over_targets_that_count(way, ignored):
    """Each sample has two targets, of which the second of the first sample does not count."""
    torch.manual_seed(0)
    model = nn.Linear(4, 3).double()
    x, y = torch.randn(4, 2, 4).double(), torch.tensor([[1, ignored], [1, 1], [1, 1], [1, 1]])

    class Classes(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = model

        def forward(self, x):
            return self.linear(x).mT

    loss = nn.CrossEntropyLoss(ignore_index=ignored)
    problem = gk.ModuleProblem(Classes(), loss)
    got = gk.kernel(f"{way}.per_sample").build(problem)(problem.parameters(), x, y)["linear.weight"]
    for at in range(4):
        counted = 1 if at == 0 else 2
        value = functional.cross_entropy(model(x[at, :counted]), y[at, :counted])
        torch.testing.assert_close(got[at], torch.autograd.grad(value, model.weight)[0])
