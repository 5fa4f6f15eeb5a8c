"""Models of audits beside those of `gradkernels.zoo`, one peculiarity each, with 8 samples, float32, seeded.

`gradkernels audit --tool opacus --problem bench/audits/audit_models.py:padding_index`
"""

from __future__ import annotations

import functools

import torch
from torch import nn
from torch.nn import functional

import gradkernels as gk

SAMPLES, LENGTH, WORDS, CLASSES = 8, 6, 12, 3

MODELS = {}
"""The factories by name."""


def listed(factory):
    """Seed a factory of (model, x, y) or (model, x, y, loss), make a problem of what it gives, and list it."""

    @functools.wraps(factory)
    def problem():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            model, x, y, *loss = factory()
        return gk.ModuleProblem(model.eval(), *(loss or [functional.cross_entropy]), example=(x, y))

    MODELS[factory.__name__] = problem
    return problem


def classes(*shape):
    return torch.randint(CLASSES, (SAMPLES, *shape))


def tokens():
    return torch.randint(WORDS, (SAMPLES, LENGTH))


class Tagger(nn.Module):
    """A class for each word of a text."""

    def __init__(self, words, body, head):
        super().__init__()
        self.words, self.body, self.head = words, body, head

    def forward(self, tokens):
        return self.head(self.body(self.words(tokens))).mT


class Called(nn.Module):
    """Layers, and what is computed of them."""

    def __init__(self, compute, **layers):
        super().__init__()
        self.compute = compute
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x):
        return self.compute(self, x)


@listed
def tagger():
    """Give a class to each word of a text."""
    return Tagger(nn.Embedding(WORDS, 5), nn.Tanh(), nn.Linear(5, CLASSES)), tokens(), classes(LENGTH)


@listed
def tied():
    """Have the table of words as output layer too: one parameter in two layers."""
    model = Tagger(nn.Embedding(WORDS, 5), nn.Tanh(), nn.Linear(5, WORDS))
    model.head.weight = model.words.weight
    return model, tokens(), torch.randint(WORDS, (SAMPLES, LENGTH))


@listed
def layer_twice():
    """Call one Linear layer twice in a forward pass."""
    model = Called(lambda own, x: own.head(own.layer(own.layer(x).tanh()).tanh()), layer=nn.Linear(4, 4),
                   head=nn.Linear(4, CLASSES))  # fmt: skip
    return model, torch.randn(SAMPLES, 4), classes()


@listed
def padding_index():
    """Have an Embedding with padding_idx=0, and texts with word 0 in them."""
    x = tokens()
    x[:, -2:] = 0
    return Tagger(nn.Embedding(WORDS, 5, padding_idx=0), nn.Tanh(), nn.Linear(5, CLASSES)), x, classes(LENGTH)


@listed
def circular():
    """Have a convolution with padding_mode="circular"."""
    layers = nn.Conv2d(1, 2, 3, padding=1, padding_mode="circular"), nn.Tanh(), nn.Flatten(), nn.Linear(50, CLASSES)
    return nn.Sequential(*layers), torch.randn(SAMPLES, 1, 5, 5), classes()


@listed
def grouped():
    """Have a convolution over time with groups, dilation and stride."""
    layers = nn.Conv1d(4, 6, 3, stride=2, dilation=2, groups=2), nn.Tanh(), nn.Flatten(), nn.Linear(24, CLASSES)
    return nn.Sequential(*layers), torch.randn(SAMPLES, 4, 11), classes()


@listed
def normalized():
    """Have LayerNorm, GroupNorm and InstanceNorm with parameters."""
    layers = nn.Conv1d(2, 4, 1), nn.GroupNorm(2, 4), nn.Tanh(), nn.InstanceNorm1d(4, affine=True), nn.Flatten()
    return nn.Sequential(*layers, nn.LayerNorm(20), nn.Linear(20, CLASSES)), torch.randn(SAMPLES, 2, 5), classes()


@listed
def batch_norm():
    """Have BatchNorm in eval mode, with parameters that are trained."""
    return nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, CLASSES)), torch.randn(SAMPLES, 4), classes()


@listed
def attention():
    """Have nn.MultiheadAttention."""
    model = Called(lambda own, x: own.head(own.attend(x, x, x, need_weights=False)[0].mean(1)),
                   attend=nn.MultiheadAttention(4, 2, batch_first=True), head=nn.Linear(4, CLASSES))  # fmt: skip
    return model, torch.randn(SAMPLES, 5, 4), classes()


@listed
def bare_parameter():
    """Have a parameter that is in no layer: a learned scale."""
    model = Called(
        lambda own, x: own.head(own.scale * x), scale=nn.Parameter(torch.ones(4)), head=nn.Linear(4, CLASSES)
    )
    return model, torch.randn(SAMPLES, 4), classes()


@listed
def used_by_hand():
    """Compute with a layer's parameters without calling the layer."""
    model = Called(lambda own, x: own.head(functional.linear(x, own.layer.weight, own.layer.bias).tanh()),
                   layer=nn.Linear(4, 5), head=nn.Linear(5, CLASSES))  # fmt: skip
    return model, torch.randn(SAMPLES, 4), classes()


@listed
def frozen():
    """Have a layer whose parameters are not trained."""
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, CLASSES))
    model[0].requires_grad_(False)
    return model, torch.randn(SAMPLES, 4), classes()


@listed
def class_weights():
    """Weigh classes in a mean loss, which divides by the weights of the batch."""
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, CLASSES))
    return model, torch.randn(SAMPLES, 4), classes(), nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 4.0]))
