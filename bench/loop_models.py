"""The models of `loop_cells.py` with functions that draw their data, its steps, and how it tells a figure."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

import gradkernels as gk
from gradkernels import zoo

TESTS = Path(__file__).parents[1] / "tests"
sys.path[:0] = [str(TESTS / "real"), str(TESTS)]


def real(name, **settings):
    from families import FAMILIES
    from real_cells import SIZES

    family = FAMILIES[name]
    model = family.make(**{**SIZES[name], **settings})
    return gk.ModuleProblem(model, family.loss, mixing="own"), family.data


def image_problem():
    problem = zoo.ZOO["cnn"]()
    x, y = problem.example

    def data(n, seed=0, **_):
        at = torch.randint(len(y), (n,), generator=torch.Generator().manual_seed(seed))
        return torch.as_tensor(x)[at], torch.as_tensor(y)[at]

    return problem, data


def made(name):
    return image_problem() if name == "cnn" else real(name)


def large():
    """Twenty million parameters in eight layers, and a batch of 32."""
    torch.manual_seed(0)
    width = int((20e6 / 8) ** 0.5)
    layers = [one for _ in range(8) for one in (nn.Linear(width, width), nn.GELU())]
    model = nn.Sequential(*layers, nn.Linear(width, 4))
    return gk.ModuleProblem(model, nn.CrossEntropyLoss()), torch.randn(32, width), torch.arange(32) % 4


class Map(nn.Module):
    """Four linear maps written in some way."""

    def __init__(self, write, width=256):
        super().__init__()
        torch.manual_seed(0)
        self.write = write
        self.weights = nn.ParameterList(torch.randn(width, width) / width**0.5 for _ in range(4))
        self.biases = nn.ParameterList(torch.zeros(width) for _ in range(4))

    def forward(self, x):
        for weight, bias in zip(self.weights, self.biases, strict=True):
            x = torch.tanh(self.write(x, weight, bias))
        return x.mean(1)[:, :10]


WRITTEN = {
    "nn.Linear": lambda x, w, b: F.linear(x, w, b),
    "addmm": lambda x, w, b: torch.addmm(b, x.view(-1, x.shape[-1]), w).view(x.shape),
    "x @ W + b": lambda x, w, b: x @ w + b,
    "F.linear(x, W.T)": lambda x, w, b: F.linear(x, w.T, b),
    "matmul + b": lambda x, w, b: torch.matmul(x, w) + b,
    "einsum + b": lambda x, w, b: torch.einsum("nti,io->nto", x, w) + b,
    "baddbmm": lambda x, w, b: torch.baddbmm(b, x, w.expand(len(x), -1, -1)),
}


def tell(what, model, figure, ratio, limit):
    print(json.dumps({"what": what, "model": model, "figure": figure, "ratio": ratio, "limit": limit}), flush=True)


def clip(problem, x, y):
    return gk.clipped_sum(problem, None, x, y, max_norm=1.0)


def plain(problem, x, y):
    own = list(problem.parameters().values())
    return torch.autograd.grad(problem.loss_fn(problem.output(x), y), own)
