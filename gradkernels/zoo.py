"""Small models of six kinds with data to draw from, each a Problem: `gradkernels run --problem gradkernels.zoo:cnn`.

Every factory gives the same weights and the same 64 samples at each call, float32, in eval mode; nothing is
downloaded. Where the architecture is a well-known one its source is named. p counts the parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

import torch
from torch import Tensor, nn
from torch.nn import functional

from gradkernels.problems.module.module_problem import ModuleProblem

EXAMPLE_SAMPLES = 64
CLASSES = 10
WORDS = 1000  # of the texts

Factory = Callable[[], ModuleProblem]

ZOO: dict[str, Factory] = {}
"""The factories by name."""


def _listed(factory: Callable[[], tuple[nn.Module, Tensor]]) -> Factory:
    """Make of a model and its inputs the factory of a Problem: seeded, with targets, in the ZOO."""

    @wraps(factory)
    def problem() -> ModuleProblem:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(45)
            model, x = factory()
            y = torch.randint(CLASSES, (len(x),))
        return ModuleProblem(model.eval(), functional.cross_entropy, reduction="mean", example=(x, y))

    ZOO[factory.__name__] = problem
    return problem


def _texts(length: int) -> Tensor:
    return torch.randint(WORDS, (EXAMPLE_SAMPLES, length))


@_listed
def mlp() -> tuple[nn.Module, Tensor]:
    """Make three Linear layers, 64-128-128-10, with ReLU; p = 26,122."""
    layers = nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, CLASSES)
    return nn.Sequential(*layers), torch.randn(EXAMPLE_SAMPLES, 64)


@_listed
def cnn() -> tuple[nn.Module, Tensor]:
    """Make the network of Opacus' MNIST example, LeNet-style, on 1 x 28 x 28; p = 26,010."""
    features = nn.Sequential(
        nn.Conv2d(1, 16, 8, stride=2, padding=3),
        nn.ReLU(),
        nn.MaxPool2d(2, 1),
        nn.Conv2d(16, 32, 4, stride=2),
        nn.ReLU(),
        nn.MaxPool2d(2, 1),
    )
    head = nn.Flatten(), nn.Linear(512, 32), nn.ReLU(), nn.Linear(32, CLASSES)
    return nn.Sequential(*features, *head), torch.randn(EXAMPLE_SAMPLES, 1, 28, 28)


class Residual(nn.Module):
    """Two 3 x 3 convolutions with GroupNorm beside a shortcut (He et al. 2016; Wu & He 2018)."""

    def __init__(self, narrow: int, wide: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(narrow, wide, 3, stride, padding=1, bias=False)
        self.first_norm = nn.GroupNorm(4, wide)
        self.second = nn.Conv2d(wide, wide, 3, padding=1, bias=False)
        self.second_norm = nn.GroupNorm(4, wide)
        same = narrow == wide and stride == 1
        self.shortcut = nn.Identity() if same else nn.Conv2d(narrow, wide, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map images `(n, narrow, h, w)` to `(n, wide, h / stride, w / stride)`."""
        inner = functional.relu(self.first_norm(self.first(x)))
        return functional.relu(self.second_norm(self.second(inner)) + self.shortcut(x))


@_listed
def resnet() -> tuple[nn.Module, Tensor]:
    """Make three residual blocks of 16, 32 and 64 channels with GroupNorm, on 3 x 14 x 14; p = 77,850."""
    stem = nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.GroupNorm(4, 16), nn.ReLU()
    blocks = Residual(16, 16, 1), Residual(16, 32, 2), Residual(32, 64, 2)
    head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, CLASSES)
    return nn.Sequential(*stem, *blocks, *head), torch.randn(EXAMPLE_SAMPLES, 3, 14, 14)


class Transformer(nn.Module):
    """An encoder of two layers with learned positions; the mean over time is classified (Vaswani et al. 2017)."""

    def __init__(self, length: int, width: int = 64) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS // 4, width)
        self.positions = nn.Parameter(0.1 * torch.randn(length, width))
        layer = nn.TransformerEncoderLayer(width, 4, dim_feedforward=128, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map token ids `(n, t)` to logits `(n, classes)`."""
        logits: Tensor = self.head(self.encoder(self.words(tokens) + self.positions).mean(1))
        return logits


@_listed
def transformer() -> tuple[nn.Module, Tensor]:
    """Make an encoder of two layers, 64 wide with 4 heads, on 16 of 250 tokens; p = 84,618."""
    return Transformer(16), torch.randint(WORDS // 4, (EXAMPLE_SAMPLES, 16))


class Recurrent(nn.Module):
    """An LSTM whose last step is classified (Hochreiter & Schmidhuber 1997)."""

    def __init__(self) -> None:
        super().__init__()
        self.recurrent = nn.LSTM(32, 64, batch_first=True)
        self.head = nn.Linear(64, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Map sequences `(n, t, 32)` to logits `(n, classes)`."""
        steps, _ = self.recurrent(x)
        logits: Tensor = self.head(steps[:, -1])
        return logits


@_listed
def lstm() -> tuple[nn.Module, Tensor]:
    """Make an LSTM of 64 units on 20 steps of 32 features; p = 25,738."""
    return Recurrent(), torch.randn(EXAMPLE_SAMPLES, 20, 32)


@_listed
def embedding_bag() -> tuple[nn.Module, Tensor]:
    """Classify the mean of 30 of 1000 word vectors, as fastText does (Joulin et al. 2017); p = 64,650."""
    return nn.Sequential(nn.EmbeddingBag(WORDS, 64, mode="mean"), nn.Linear(64, CLASSES)), _texts(30)
