"""Models of every kind that a problem may be made of, and plain torch as the oracle for their per-sample gradients."""

import copy

import torch
from torch import nn
from torch.nn import functional


def oracle(model, loss_fn, x, y):
    """Rows by name, float64: `backward()` on a copy of the model for each batch of one, `.grad` read off."""
    model = copy.deepcopy(model).double()
    rows = []
    for i in range(len(first(y))):
        model.zero_grad()
        one = wide(sliced(x, i))
        output = model(**one) if isinstance(one, dict) else model(*one) if isinstance(one, tuple) else model(one)
        loss_fn(output, wide(sliced(y, i))).backward()
        rows.append({name: grad_of(p).clone() for name, p in model.named_parameters() if p.requires_grad})
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}


def grad_of(parameter):
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def first(tree):
    parts = list(tree.values()) if isinstance(tree, dict) else tree
    return parts[0] if isinstance(tree, dict | tuple) else tree


def mapped(function, tree):
    if isinstance(tree, dict):
        return {name: function(part) for name, part in tree.items()}
    return tuple(map(function, tree)) if isinstance(tree, tuple) else function(tree)


def sliced(tree, i):
    return mapped(lambda part: part[i : i + 1], tree)


def wide(tree):
    return mapped(lambda part: part.double() if part.is_floating_point() else part, tree)


class Scaled(nn.Module):
    """A raw parameter, a buffer, and a parameter that is never used."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([0.5, 1.5, -1.0]))
        self.unused = nn.Parameter(torch.ones(2))
        self.register_buffer("shift", torch.tensor([1.0, 2.0, 3.0]))
        self.register_buffer("steps", torch.tensor(3))

    def forward(self, x):
        return torch.tanh(x * self.scale + self.shift)


class Tied(nn.Module):
    """An embedding whose weight is the decoder's too."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(7, 4)
        self.decoder = nn.Linear(4, 7, bias=False)
        self.decoder.weight = self.embedding.weight

    def forward(self, tokens):
        return self.decoder(torch.tanh(self.embedding(tokens).mean(1)))


class Reused(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        return self.head(torch.tanh(self.linear(torch.tanh(self.linear(x)))))


class Pair(nn.Module):
    """Two inputs; called with a tuple or by names."""

    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Linear(3, 2), nn.Linear(2, 2)

    def forward(self, a, b):
        return self.left(a) * self.right(b), b.sum(1)


def pair_loss(output, y):
    return functional.mse_loss(output[0], y["target"]) + (output[1] * y["weight"]).mean()


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.head = nn.LSTM(3, 4, batch_first=True), nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.lstm(x)[0][:, -1])


class Functional(nn.Module):
    """Dropout without a module."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, x):
        return self.linear(functional.dropout(x, 0.5, self.training))


class Checkpointed(nn.Module):
    """Calls its layer again in the backward pass, to save memory."""

    def __init__(self):
        super().__init__()
        self.linear, self.head = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x):
        from torch.utils.checkpoint import checkpoint

        return self.head(checkpoint(lambda one: torch.tanh(self.linear(one)), x, use_reentrant=False))


class OwnFloats(nn.Module):
    """Makes a tensor of its own in the default dtype, so that it cannot compute in float64."""

    def __init__(self):
        super().__init__()
        self.cell = nn.RNNCell(4, 3)

    def forward(self, x):
        return self.cell(x, torch.zeros(len(x), 3))


def frozen():
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
    model[0].weight.requires_grad_(False)
    return model


def normalised():
    """BatchNorm in evaluation mode, with statistics of its own."""
    model = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 3))
    model[1].running_mean += 0.5
    model[1].running_var *= 2
    return model.eval()


def image():
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8, 3))


def mlp():
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))


def classes(n):
    return torch.arange(n) % 3


CROSS_ENTROPY = nn.CrossEntropyLoss()
MODELS = {
    "multilayer perceptron": lambda n: (mlp(), CROSS_ENTROPY, torch.randn(n, 4), classes(n)),
    "frozen weight": lambda n: (frozen(), CROSS_ENTROPY, torch.randn(n, 4), classes(n)),
    "raw parameter and buffer": lambda n: (Scaled(), nn.MSELoss(), torch.randn(n, 3), torch.randn(n, 3)),
    "tied weight": lambda n: (Tied(), CROSS_ENTROPY, torch.randint(0, 7, (n, 5)), torch.randint(0, 7, (n,))),
    "reused layer": lambda n: (Reused(), CROSS_ENTROPY, torch.randn(n, 4), classes(n)),
    "tuple of inputs": lambda n: (Pair(), pair_loss, (torch.randn(n, 3), torch.randn(n, 2)), targets(n)),
    "dict of inputs": lambda n: (Pair(), pair_loss, {"b": torch.randn(n, 2), "a": torch.randn(n, 3)}, targets(n)),
    "sequence": lambda n: (Recurrent(), CROSS_ENTROPY, torch.randn(n, 5, 3), classes(n)),
    "image": lambda n: (image(), CROSS_ENTROPY, torch.randn(n, 1, 6, 6), classes(n)),
    "batch norm in evaluation mode": lambda n: (normalised(), CROSS_ENTROPY, torch.randn(n, 4), classes(n)),
    "checkpoint": lambda n: (Checkpointed(), CROSS_ENTROPY, torch.randn(n, 4), classes(n)),
    "per position": lambda n: (nn.Linear(3, 4), positions, torch.randn(n, 5, 3), torch.randint(0, 4, (n, 5))),
}
"""`(model, loss_fn, x, y)` with n samples, by what is special about it."""


def positions(output, y):
    """A loss of sequences: the mean over samples and positions."""
    return functional.cross_entropy(output.flatten(0, 1), y.flatten())


def targets(n):
    return {"target": torch.randn(n, 2), "weight": torch.randn(n)}
