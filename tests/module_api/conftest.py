"""A small module and data for it, as the tests of this room share them."""

import models
import pytest
import torch
from models import CROSS_ENTROPY, mlp

import gradkernels as gk
from gradkernels.kernel import Kernel


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture
def problem():
    return gk.ModuleProblem(mlp(), CROSS_ENTROPY, example=(torch.randn(6, 4), models.classes(6)))


@pytest.fixture
def data():
    return torch.randn(5, 4), models.classes(5)


@pytest.fixture
def only(monkeypatch):
    """A function that makes the registry have these kernels alone."""

    def limit(*kernels: Kernel):
        monkeypatch.setattr("gradkernels.dispatch.select.kernels", lambda problem, quantity: kernels)

    return limit
