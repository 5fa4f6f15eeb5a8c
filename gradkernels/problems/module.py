"""Any torch.nn.Module and its loss as a Problem.

Shapes, stated once: `theta` is a dict from parameter name to tensor, the trainable parameters alone, tied ones once
under their first name; x and y are tensors, or tuples or dicts of tensors, with the samples first; the model is called
with x, *x or **x. Gradients are dicts with theta's keys, per-sample gradients `(n, *parameter.shape)`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from gradkernels.backend import Array
from gradkernels.names import pick
from gradkernels.problems.backward import truth
from gradkernels.problems.losses import REDUCTIONS, LossFn, sample_losses, unreduced
from gradkernels.problems.problem import Problem, Truth
from gradkernels.problems.structure import Module, Parameters, Site, fingerprint, sites, stamp, swapped
from gradkernels.tree import Tree, count, each, leaves, take

RANDOMNESS = ("error", "same", "different")
TOLERANCES = {"float64": 1e-10, "float32": 1e-4}
DRAWN_SPREAD = 0.1  # of drawn parameters around the model's own, relative


@dataclass(frozen=True, eq=False)
class ModuleProblem(Problem):
    """The loss of a `torch.nn.Module`, one sample at a time.

    The model is used as it is, weights, modes and device, and left as it is.

    Attributes:
        model: The module; its parameters that require gradients are what is differentiated.
        loss_fn: `loss_fn(output, y)` of a batch, a scalar; a sample's own loss is that of a batch of one.
        reduction: Whether `loss_fn` is the `mean` or the `sum` over a batch.
        randomness: What dropout and other random functions do: `error`, they are refused; `same`, every sample sees
            the same draw; `different`, each its own.
        seed: Of those draws: each computation starts with it, so that it can be repeated, and torch's own generator
            goes on as if nothing had been drawn.
        example: `(x, y)` to draw from where no data are given: `gradkernels run`, `gk.fastest(..., n=)`.
    """

    model: Module
    loss_fn: LossFn
    reduction: str = "mean"
    randomness: str = "error"
    seed: int = 0
    example: tuple[Tree, Tree] | None = None

    def __post_init__(self) -> None:
        """Refuse what has no per-sample gradients, and a reduction that the loss itself contradicts."""
        from torch.nn import Module

        if not isinstance(self.model, Module):
            raise TypeError(f"model is a {type(self.model).__name__}; it must be a torch.nn.Module")
        if not callable(self.loss_fn):
            raise TypeError(f"loss_fn is a {type(self.loss_fn).__name__}; pass a function of (output, target)")
        pick(dict.fromkeys(REDUCTIONS), self.reduction, "reduction")
        pick(dict.fromkeys(RANDOMNESS), self.randomness, "randomness")
        said = getattr(self.loss_fn, "reduction", self.reduction)
        if said != self.reduction:
            raise ValueError(f"reduction={self.reduction!r}, but loss_fn has reduction={said!r}; make them equal")
        if not self.sites():
            raise ValueError(f"{type(self.model).__name__} has no parameter that requires a gradient")

    def sites(self) -> dict[str, list[Site]]:
        """Every place of each trainable parameter, by name."""
        return sites(self.model)

    def own(self) -> dict[str, Any]:
        """The model's own trainable parameters, by name: not copies."""
        return {name: module._parameters[attribute] for name, ((module, attribute), *_) in self.sites().items()}

    def stamp(self) -> tuple[Any, ...]:
        """What a kernel built for this problem relies on; changes when the model's modes do."""
        return stamp(self.model)

    @property
    def name(self) -> str:
        """`module:LeNet:1f0c3a9b`: the class, and a fingerprint of the structure and the loss."""
        key = self.stamp()
        if key not in self._names:
            loss = getattr(self.loss_fn, "__qualname__", repr(self.loss_fn))
            digits = fingerprint(self.model, loss, self.reduction, self.randomness, str(key))
            self._names[key] = f"module:{type(self.model).__name__}:{digits}"
        return self._names[key]

    @cached_property
    def _names(self) -> dict[Any, str]:
        return {}

    @cached_property
    def _plain(self) -> LossFn | None:
        return unreduced(self.loss_fn)

    def holding(self, theta: Parameters) -> Any:
        """A context in which the model holds `theta`."""
        return swapped(self.sites(), theta)

    @contextmanager
    def drawing(self) -> Iterator[None]:
        """A context whose random numbers start with the seed, where there are any."""
        if self.randomness == "error":
            yield
            return
        import torch

        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            yield

    def output(self, x: Tree) -> Tree:
        """The model's output for a batch, with the parameters that it holds."""
        if isinstance(x, dict):
            return self.model(**x)
        return self.model(*x) if isinstance(x, tuple) else self.model(x)

    def losses(self, output: Tree, y: Tree) -> Array:
        """Loss of each sample `(n,)` from the model's output for a batch."""
        return sample_losses(self.loss_fn, self._plain, self.reduction, output, y)

    def loss(self, theta: Parameters, x: Tree, y: Tree) -> Array:
        """Loss of ONE sample, without its axis, a scalar: what `torch.func` and loops differentiate."""
        with self.holding(theta):
            output = self.output(each(lambda array: array[None], x))
        return self.loss_fn(output, each(lambda array: array[None], y))

    def shape(self, features: int) -> Any:
        """Shapes of the parameters, by name."""
        return {name: tuple(parameter.shape) for name, parameter in self.own().items()}

    def size(self, features: int) -> int:
        """p, the number of trainable parameters."""
        return sum(parameter.numel() for parameter in self.own().values())

    def draw(self, n: int, seed: int, features: int = 1) -> Any:
        """Parameters near the model's own, and n samples of the example, again and again if it has fewer."""
        if self.example is None:
            raise ValueError(f"{self.name} has no data to draw from; make the ModuleProblem with example=(x, y)")
        rng = np.random.default_rng([seed, 0])
        rows = np.resize(rng.permutation(count(self.example[1])), n)
        x, y = each(lambda tensor: np.array(tensor.numpy(force=True)), take(self.example, rows))
        return self.draw_theta(features, seed), x, y

    def draw_theta(self, features: int, seed: int) -> Any:
        """The model's own parameters, each entry times 1 + 0.1 of a standard normal number; float64."""
        rng = np.random.default_rng([seed, 1])
        own = {name: tensor.detach().double().numpy(force=True) for name, tensor in self.own().items()}
        return {name: array * (1 + DRAWN_SPREAD * rng.standard_normal(array.shape)) for name, array in own.items()}

    def validate(self, theta: Parameters, x: Tree, y: Tree) -> None:
        """Raise a ValueError unless theta, x and y fit the model and each other, and its modes allow it."""
        raise NotImplementedError

    def tolerance(self, dtype: str, terms: int) -> float:
        """Relative to the row's norm, as the rounding of a whole network is not that of one inner product."""
        return TOLERANCES[dtype]

    def truth(self, theta: Any, x: Tree, y: Tree) -> Truth:
        """One backward pass per sample in float64; see `gradkernels.problems.backward`."""
        return truth(self, theta, x, y)
