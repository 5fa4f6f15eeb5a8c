"""A module and the gradients of its samples, one pass each."""

import pytest
import torch
from models import oracle
from torch import nn

import gradkernels as gk


@pytest.fixture(scope="module")
def module():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv1d(2, 3, 2), nn.Tanh(), nn.Flatten(), nn.Linear(9, 3)).double()
    x, y = torch.randn(6, 2, 4, dtype=torch.float64), torch.arange(6) % 3
    rows = oracle(model, nn.CrossEntropyLoss(), x, y)
    return gk.ModuleProblem(model, nn.CrossEntropyLoss()), x, y, rows
