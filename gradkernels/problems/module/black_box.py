"""A problem of which nothing is known but that it computes: what the looks at it, its proofs and its draws need."""

from __future__ import annotations

from abc import abstractmethod
from contextlib import AbstractContextManager
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from gradkernels.backend import Array
from gradkernels.problems.module.structure import LossFn, Module, Parameters, Site
from gradkernels.problems.problem import Problem
from gradkernels.tree import Tree, each, leaves, named

if TYPE_CHECKING:  # whose users are not made to wait for it
    from gradkernels.problems.module.mode_key.tracker import ModeKey


class BlackBox(Problem):
    """A model and a loss of its output.

    Attributes:
        model: Its parameters that require gradients are what is differentiated.
        loss_fn: Loss of a batch.
        reduction: Whether that is the `mean` or the `sum` over the batch.
        example: `(x, y)` to draw from where no data are given.
    """

    is_black_box: ClassVar[bool] = True
    model: Module
    loss_fn: LossFn
    reduction: str
    example: tuple[Tree, Tree] | None

    @cached_property
    def cache(self) -> dict[Any, Any]:
        """What is built for the problem, as long as it lives."""
        return {}

    @property
    @abstractmethod
    def has_torch_loss(self) -> bool:
        """Whether the loss is one of torch's."""

    @property
    @abstractmethod
    def fixed_features(self) -> int | None:
        """The number of entries of a sample of the example; None where there is no example."""

    @abstractmethod
    def prepared(self, x: Tree, y: Tree) -> tuple[Tree, Tree]:
        """Return x and y as trees of arrays with the samples first, among constants."""

    @abstractmethod
    def check_mixing(self, theta: Parameters, x: Tree, y: Tree) -> None:
        """Warn of a batch's loss that weighs its samples, and refuse one that compares them with each other.

        Args:
            theta: Parameters by name.
            x: Inputs, prepared.
            y: Targets, prepared.
        """

    @abstractmethod
    def mode_key(self) -> ModeKey:
        """Return a key that is another one whenever the model, its modes or the loss change."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Return what a kernel must leave as it is besides its inputs, by what a message calls it."""

    @abstractmethod
    def lock(self) -> AbstractContextManager[Any]:
        """Return a context that one thread at a time is in, where the model's parameters are exchanged."""

    @abstractmethod
    def sites(self) -> dict[str, list[Site]]:
        """Find every place of each trainable parameter, by name."""

    @abstractmethod
    def parameters(self) -> Parameters:
        """Return the model's own trainable parameters, by name: not copies."""

    def as_inputs(self, theta: Any, x: Any, y: Any) -> tuple[Any, Tree, Tree]:
        """Return the model's own parameters where theta is None, and x and y prepared.

        Args:
            theta: Parameters by name, or None.
            x: Inputs as the caller has them.
            y: Targets as the caller has them.
        """
        return self.parameters() if theta is None else theta, *self.prepared(x, y)

    @abstractmethod
    def output(self, x: Tree) -> Tree:
        """Compute the model's output for a batch, with the parameters that it holds."""

    @abstractmethod
    def losses(self, output: Tree, y: Tree) -> Array:
        """Compute the loss of each sample `(n,)` from the model's output for a batch."""

    @abstractmethod
    def batch_loss(self, output: Tree, y: Tree) -> Array:
        """Compute the loss of a batch, as the caller's function gives it."""

    def loss(self, theta: Parameters, x: Tree, y: Tree) -> Array:
        """Compute the loss of ONE sample, without its axis, a scalar: what `torch.func` and loops differentiate.

        Args:
            theta: Parameters by name.
            x: Inputs of the sample, without an axis of samples.
            y: Targets of the sample, likewise.
        """
        with self.with_parameters(theta):
            output = self.output(each(lambda array: array[None], x))
        return self.batch_loss(output, each(lambda array: array[None], y))

    def sample_losses(self, theta: Parameters, x: Tree, y: Tree) -> Array:
        """Compute the loss of each sample of a batch, `(n,)`, from one forward pass.

        Args:
            theta: Parameters by name.
            x: Inputs, samples first.
            y: Targets, samples first.
        """
        with self.with_parameters(theta):
            return self.losses(self.output(x), y)

    def shape(self, features: int) -> Any:
        """Return the shapes of the parameters, by name."""
        return {name: tuple(parameter.shape) for name, parameter in self.parameters().items()}

    def size(self, features: int) -> int:
        """Return p, the number of trainable parameters."""
        return sum(parameter.numel() for parameter in self.parameters().values())

    def features(self, x: Tree) -> int:
        """Count the entries of one sample over all tensors of x."""
        return sum(int(np.prod(array.shape[1:])) for array in leaves(x))

    def floats(self, theta: Tree, x: Tree, y: Tree) -> dict[str, Array]:
        """Return the arrays of theta alone: x and y are whatever the model takes.

        Args:
            theta: Parameters by name.
            x: Inputs.
            y: Targets.
        """
        return dict(named("theta", theta))
