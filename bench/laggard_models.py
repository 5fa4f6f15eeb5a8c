"""The models of `test_laggards.py` that are not in the zoo: loops over cells, reparametrized weights, long texts."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence

import gradkernels as gk
from gradkernels import zoo

CLASSES = 10


class CellLoop(nn.Module):
    """A GRUCell over 20 steps of 32 features."""

    def __init__(self):
        super().__init__()
        self.cell, self.head = nn.GRUCell(32, 64), nn.Linear(64, CLASSES)

    def forward(self, x):
        state = x.new_zeros(len(x), 64)
        for step in x.unbind(1):
            state = self.cell(step, state)
        return self.head(state)


class DropConnect(nn.Module):
    """The MLP with half of its first weights masked (Wan et al. 2013)."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(64, 128), nn.Linear(128, CLASSES)
        self.register_buffer("mask", 2 * (torch.rand(128, 64) < 0.5).float())

    def forward(self, x):
        masked = functional.linear(x, self.first.weight * self.mask, self.first.bias)
        return self.last(torch.relu(masked))


class Packed(nn.Module):
    """An LSTM on packed texts of 1 to 20 words; the last state."""

    def __init__(self):
        super().__init__()
        self.words, self.layer = nn.Embedding(100, 32), nn.LSTM(32, 64, batch_first=True)
        self.head = nn.Linear(64, CLASSES)

    def forward(self, tokens, lengths):
        packed = pack_padded_sequence(self.words(tokens), lengths, batch_first=True, enforce_sorted=False)
        return self.head(self.layer(packed)[1][0][-1])


class Elman(nn.Module):
    """Two linear maps at each of 20 steps, begun with zeros."""

    def __init__(self):
        super().__init__()
        self.inputs, self.states, self.head = nn.Linear(32, 64), nn.Linear(64, 64), nn.Linear(64, CLASSES)

    def forward(self, x):
        state = x.new_zeros(len(x), 64)
        for step in x.unbind(1):
            state = torch.tanh(self.inputs(step) + self.states(state))
        return self.head(state)


class Texts(nn.Module):
    """One block of a language model without attention, of 128 units, on token ids; the mean of all steps."""

    def __init__(self, width=128):
        super().__init__()
        self.words, self.norm = nn.Embedding(500, width), nn.LayerNorm(width)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, tokens):
        steps = self.words(tokens)
        steps = steps + self.narrow(torch.relu(self.wide(self.norm(steps))))
        return self.head(steps.mean(1))


def weight_norm():
    """The MLP with `torch.nn.utils.parametrizations.weight_norm` of both layers."""
    first, last = map(nn.utils.parametrizations.weight_norm, (nn.Linear(64, 128), nn.Linear(128, CLASSES)))
    return nn.Sequential(first, nn.ReLU(), last)


def spectral_norm():
    """The MLP with `torch.nn.utils.parametrizations.spectral_norm` of both layers, in eval mode."""
    first, last = map(nn.utils.parametrizations.spectral_norm, (nn.Linear(64, 128), nn.Linear(128, CLASSES)))
    return nn.Sequential(first, nn.ReLU(), last).eval()


class Standardized(nn.Conv2d):
    """A convolution whose filters have mean 0 and spread 1 (Qiao et al. 2019)."""

    def forward(self, x):
        """Map images."""
        spread, mean = torch.std_mean(self.weight, (1, 2, 3), keepdim=True)
        return functional.conv2d(x, (self.weight - mean) / (spread + 1e-5), self.bias, self.stride, self.padding)


def standardized():
    """Two such convolutions, the mean of all places, and a linear map."""
    layers = Standardized(3, 16, 3, padding=1), nn.ReLU(), Standardized(16, 32, 3, 2), nn.ReLU()
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, CLASSES))


class MergedLora(nn.Module):
    """The MLP, its first map frozen, with a change of rank 4 that is added to it before it is used."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(64, 128).requires_grad_(False), nn.Linear(128, CLASSES)
        self.down, self.up = nn.Parameter(torch.randn(4, 64) / 8), nn.Parameter(torch.randn(128, 4) / 8)

    def forward(self, x):
        """Map vectors to logits."""
        merged = functional.linear(x, self.first.weight + self.up @ self.down, self.first.bias)
        return self.last(torch.relu(merged))


OWN = {
    "spectral norm": (spectral_norm, lambda n: torch.randn(n, 64)),
    "weight standardization": (standardized, lambda n: torch.randn(n, 3, 14, 14)),
    "merged LoRA": (MergedLora, lambda n: torch.randn(n, 64)),
    "GRUCell loop": (CellLoop, lambda n: torch.randn(n, 20, 32)),
    "Elman loop": (Elman, lambda n: torch.randn(n, 20, 32)),
    "packed LSTM": (Packed, lambda n: (torch.randint(100, (n, 20)), 1 + torch.arange(n) * 7 % 20)),
    "DropConnect": (DropConnect, lambda n: torch.randn(n, 64)),
    "weight norm": (weight_norm, lambda n: torch.randn(n, 64)),
    "texts of 2048": (Texts, lambda n: torch.randint(500, (n, 2048))),
    "texts of 8192": (Texts, lambda n: torch.randint(500, (n, 8192))),
}


def made(name, n):
    """Return the problem of that name, n inputs and their targets."""
    torch.manual_seed(0)
    if name in zoo.ZOO:
        problem = zoo.ZOO[name]()
        x, y = map(torch.as_tensor, problem.example)
        at = torch.arange(n) % len(y)
        return problem, x[at], y[at]
    make, data = OWN[name]
    return gk.ModuleProblem(make(), nn.CrossEntropyLoss()), data(n), torch.arange(n) % CLASSES
