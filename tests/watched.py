"""Models to be watched, and what one backward pass for each sample says of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint


class Watched(NamedTuple):
    """A model, `loss(model, *batch)` of a batch, and a batch, samples first."""

    model: nn.Module
    loss: Callable[..., torch.Tensor]
    batch: tuple[torch.Tensor, ...]


def cross_entropy(model: Any, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(model(x), y)


def token_loss(model: Any, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(model(x).transpose(1, 2), y)


def rows_of(watched: Watched) -> torch.Tensor:
    """Return each sample's gradient, flat, by a backward pass of that sample alone."""
    model, rows = watched.model, []
    for i in range(len(watched.batch[0])):
        model.zero_grad()
        watched.loss(model, *(one[i : i + 1] for one in watched.batch)).backward()
        rows.append(flat_gradient(model))
    model.zero_grad()
    return torch.stack(rows)


def flat_gradient(model: nn.Module) -> torch.Tensor:
    """Return `.grad` of all parameters, flat; zeros where there is none."""
    parts = [torch.zeros_like(one) if one.grad is None else one.grad for one in model.parameters()]
    return torch.cat([one.detach().flatten() for one in parts])


class Recurrent(nn.Module):
    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.cells = nn.LSTM(3, 4, batch_first=True, **options)
        self.head = nn.LazyLinear(3)

    def forward(self, x: torch.Tensor) -> Any:
        return self.head(self.cells(x)[0].mean(1))


class Tied(nn.Module):
    """A transformer whose table of words is the last layer's weight."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(11, 8)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.head = nn.Linear(8, 11)
        self.head.weight = self.words.weight

    def forward(self, words: torch.Tensor) -> Any:
        return self.head(self.layer(self.words(words)))


class Checkpointed(nn.Module):
    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.first, self.last, self._reentrant = nn.Linear(5, 7), nn.Linear(7, 3), reentrant
        self.middle = nn.Sequential(nn.Linear(7, 7), nn.Tanh())

    def forward(self, x: torch.Tensor) -> Any:
        hidden = torch.tanh(self.first(x))
        for _ in range(2):
            hidden = checkpoint(self.middle, hidden, use_reentrant=self._reentrant)
        return self.last(hidden)


class Bare(nn.Module):
    """Parameters of its own, one of which many things are made of."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.scale = nn.Parameter(torch.randn(5, 3)), nn.Parameter(torch.randn(3))

    def forward(self, x: torch.Tensor) -> Any:
        return torch.sin(x @ self.weight * self.scale) * torch.exp(self.scale)


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3))


def _classes(model: nn.Module, *shape: int, n: int = 4) -> Watched:
    x = torch.randn(n, *shape)
    model(x)  # lazy layers learn their sizes
    return Watched(model, cross_entropy, (x, torch.randint(3, (n,))))


def _convolutions() -> nn.Module:
    grouped = nn.Conv2d(4, 6, 3, stride=2, groups=2)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.ReLU(), grouped, nn.Flatten(), nn.Linear(6 * 9, 3)
    )


MAKERS: dict[str, Callable[[], Watched]] = {
    "mlp": lambda: _classes(mlp(), 5),
    "one sample": lambda: _classes(mlp(), 5, n=1),
    "convolutions": lambda: _classes(_convolutions(), 3, 8, 8),
    "lstm": lambda: _classes(Recurrent(num_layers=2, bidirectional=True), 5, 3),
    "projected lstm": lambda: _classes(Recurrent(proj_size=2), 5, 3),
    "tied transformer": lambda: Watched(Tied(), token_loss, (torch.randint(11, (4, 6)), torch.randint(11, (4, 6)))),
    "checkpointed": lambda: _classes(Checkpointed(reentrant=False), 5),
    "checkpointed, reentrant": lambda: _classes(Checkpointed(reentrant=True), 5),
    "weight norm": lambda: _classes(
        nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(5, 4)), nn.Tanh(), nn.Linear(4, 3)), 5
    ),
    "bare parameters": lambda: _classes(Bare(), 5),
}
"""Makers of models, by what is looked at."""
