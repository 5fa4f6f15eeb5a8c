"""Models of the steps that `opacus_door.py` times: those of the zoo, and BERT, GPT-2 and ViT from configurations.

They are as Opacus takes them, so that both train the same model: its own layers for attention and LSTM in the place of
torch's (`ModuleValidator.fix`), and positions that are given for each sample, for which Opacus' rows would be one.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from opacus.validators import ModuleValidator
from torch import nn

from gradkernels import zoo

TESTS = Path(__file__).parents[2] / "tests"
WIDTH, LENGTH, SIDE = 64, 32, 32
BLOCK = {"hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 4 * WIDTH}


@dataclass(frozen=True)
class Task:
    """A model to train.

    Attributes:
        model: With random weights, which maps x to logits.
        x: Inputs, samples first.
        y: Classes `(n,)`, or `(n, t)` one for each of t steps.
    """

    model: nn.Module
    x: Any
    y: Any

    def loss(self, criterion: Callable[..., Any], logits: Any) -> Any:
        """Compute the mean loss, as Opacus asks for it where there are steps."""
        if self.y.ndim == 1:
            return criterion(logits, self.y)
        shape = {"shape": logits.shape} if type(criterion) is not nn.CrossEntropyLoss else {}
        return criterion(logits.flatten(0, 1), self.y.flatten(), **shape)


class Bags(nn.Module):
    """A model whose first layer is an EmbeddingBag; Opacus' rows are of one that is told where each bag begins."""

    def __init__(self, offsets: bool, bags: nn.Module, *head: nn.Module) -> None:
        super().__init__()
        self.offsets, self.bags, self.head = offsets, bags, nn.Sequential(*head)

    def forward(self, x: Any) -> Any:
        """Compute logits `(n, classes)` of words `(n, t)`."""
        if not self.offsets:
            return self.head(self.bags(x))
        return self.head(self.bags(x.flatten(), torch.arange(0, x.numel(), x.shape[1])))


class Logits(nn.Module):
    """A model of transformers as a map from a tensor to logits."""

    def __init__(self, model: nn.Module, words: bool, following: bool = False) -> None:
        super().__init__()
        self.model, self.words, self.following = model, words, following

    def forward(self, x: Any) -> Any:
        """Compute logits `(n, classes)`, or `(n, t - 1, words)` of the words that follow."""
        if not self.words:
            return self.model(x).logits
        logits = self.model(x, position_ids=torch.arange(x.shape[1]).expand(x.shape).contiguous()).logits
        return logits[:, :-1] if self.following else logits


def of_zoo(name: str, n: int, own: bool) -> Task:
    """Make a model of the zoo, its example repeated to n samples.

    Args:
        name: Of the model.
        n: Number of samples.
        own: Whether it is for Opacus' own engine.
    """
    problem = getattr(zoo, name)()
    x, y = (torch.cat([one] * -(-n // len(one)))[:n] for one in problem.example)
    model = problem.model
    with torch.no_grad():
        for one in model.parameters():
            one.copy_(torch.randn(one.shape, generator=torch.Generator().manual_seed(one.numel())) * 0.1)
    if isinstance(next(model.children()), nn.EmbeddingBag):
        model = Bags(own, *model.children())
        words = torch.rand((n, zoo.WORDS), generator=torch.Generator().manual_seed(0)).argsort(1)
        x = words[:, : x.shape[1]].contiguous()  # Opacus counts a word once that is in a bag twice
    return Task(ModuleValidator.fix(model.train()), x, y)


def of_transformers(name: str, n: int, own: bool) -> Task:
    """Make a real model with random weights, the same for both engines.

    Args:
        name: Of the model.
        n: Number of samples.
        own: Whether it is for Opacus' own engine.
    """
    sys.path.insert(0, str(TESTS))
    from real.families import FAMILIES

    model = FAMILIES[name].make(**SETTINGS[name])
    x, y = FAMILIES[name].data(n, full=True, length=SIDE if name == "vit" else LENGTH)
    x = x["pixel_values" if name == "vit" else "input_ids"]
    following = y.ndim > 1
    return Task(Logits(model.train(), name != "vit", following), x, y[:, 1:].contiguous() if following else y)


SETTINGS = {
    "bert": {**BLOCK, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
    "gpt2": {
        "n_embd": WIDTH,
        "n_layer": 2,
        "n_head": 4,
        "resid_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "attn_pdrop": 0.0,
        "tie_word_embeddings": False,
    },
    "vit": {**BLOCK, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
}
"""By name of the family in `tests/real/families.py`: settings that are others here."""

ZOO = ("mlp", "cnn", "resnet", "embedding_bag", "transformer", "lstm")
MODELS = {name: partial(of_zoo, name) for name in ZOO} | {name: partial(of_transformers, name) for name in SETTINGS}
"""What makes each task of so many samples, by name."""
