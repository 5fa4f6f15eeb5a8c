"""Small modules that ask for what a library may not have: tied, frozen, reused and idle parameters, several inputs."""

import torch
from torch import nn
from torch.nn import functional

from gradkernels.problems.module.module_problem import ModuleProblem


def problem(model: nn.Module, *shape: int, reduction: str = "mean", n: int = 7, **settings) -> ModuleProblem:
    """A classifier of normal samples of a shape into three classes, the same at every call."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(n, *shape, generator=generator)
    y = torch.randint(3, (n,), generator=generator)
    loss = nn.CrossEntropyLoss(reduction=reduction)
    return ModuleProblem(model, loss, reduction=reduction, example=(x, y), **settings)


def seeded(make):
    """`make()`, with the same weights at every call."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return make().eval()


class Tied(nn.Module):
    """Two layers with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.head(torch.tanh(self.second(torch.tanh(self.first(x)))))


class Reused(nn.Module):
    """One layer called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x):
        return self.head(torch.tanh(self.layer(torch.tanh(self.layer(x)))))


class Unused(nn.Module):
    """A layer that is never called."""

    def __init__(self) -> None:
        super().__init__()
        self.idle, self.head = nn.Linear(2, 2), nn.Linear(4, 3)

    def forward(self, x):
        return self.head(x)


class Pair(nn.Module):
    """Two inputs, called `left` and `right`."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 3), nn.Linear(2, 3)

    def forward(self, left, right):
        return self.first(left) * torch.sigmoid(self.second(right))


def pair(names: bool) -> ModuleProblem:
    """A problem whose x is a tuple, or a dict, of two tensors."""
    own = problem(seeded(Pair), 6)
    x, y = own.example
    x = {"left": x[:, :4], "right": x[:, 4:]} if names else (x[:, :4], x[:, 4:])
    return ModuleProblem(own.model, functional.cross_entropy, example=(x, y))


def frozen() -> nn.Module:
    """The weight of one layer and the whole of another are not trained."""
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 3))
    model[0].weight.requires_grad_(False)
    model[2].requires_grad_(False)
    return model


def normalised() -> nn.Module:
    """BatchNorm in eval mode, with statistics that are not those of a new layer."""
    model = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 3))
    model[1].running_mean.fill_(0.3)
    model[1].running_var.fill_(2.0)
    return model


SHARED = [frozen, Unused, Reused, Tied, normalised]
"""Models whose parameters are not one layer's alone, or no layer's."""
