"""A problem of which nothing is known but that it computes: what the looks at it, its proofs and its draws need."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

from gradkernels.backend import Array
from gradkernels.problems.module.sample_losses import LossFn
from gradkernels.problems.module.structure import Module, Parameters, Site
from gradkernels.problems.problem import Problem
from gradkernels.tree import Tree


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

    @property
    @abstractmethod
    def plain(self) -> bool:
        """Whether the loss is one of torch's."""

    @abstractmethod
    def sites(self) -> dict[str, list[Site]]:
        """Every place of each trainable parameter, by name."""

    @abstractmethod
    def parameters(self) -> Parameters:
        """The model's own trainable parameters, by name: not copies."""

    @abstractmethod
    def output(self, x: Tree) -> Tree:
        """The model's output for a batch, with the parameters that it holds."""

    @abstractmethod
    def losses(self, output: Tree, y: Tree) -> Array:
        """Loss of each sample `(n,)` from the model's output for a batch."""

    @abstractmethod
    def batch_loss(self, output: Tree, y: Tree) -> Array:
        """Loss of a batch, as the caller's function gives it."""
