"""A problem of which nothing is known but that it computes: what the looks at it, its proofs and its draws need."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from gradkernels.backend import Array
from gradkernels.names import unknown
from gradkernels.problems.locks import lock_of
from gradkernels.problems.module.structure import (
    LossFn,
    Module,
    Parameters,
    Site,
    model_state,
    sites,
    swapped_parameters,
    trained_alone,
)
from gradkernels.problems.problem import Problem
from gradkernels.tree import Tree, each, leaves, named

if TYPE_CHECKING:  # whose users are not made to wait for it
    from gradkernels.problems.module.mode_key.tracker import ModeKey


MOST_RESTRICTED = 16
"""Problems of some parameters alone that are kept for the next call, with all that was built for them."""


def globs_of(parameters: Any) -> tuple[str, ...]:
    """Return names and globs of parameters in one order; what is one string is one of them."""
    given = [parameters] if isinstance(parameters, str) else parameters
    if not isinstance(given, Sequence | set | frozenset) or not all(isinstance(one, str) for one in given):
        raise TypeError(f"parameters is {parameters!r}; it must be a name, or a list of names or globs: ['encoder.*']")
    if not given:
        raise ValueError("parameters names nothing; give at least one name, or leave it out for all")
    return tuple(sorted(set(given)))


class BlackBox(Problem):
    """A model and a loss of its output.

    Attributes:
        model: Its parameters that require gradients are what is differentiated.
        loss_fn: Loss of a batch.
        reduction: Whether that is the `mean` or the `sum` over the batch.
        example: `(x, y)` to draw from where no data are given.
        only: Globs of the names of the parameters that are differentiated by; all where there are none.
    """

    is_black_box: ClassVar[bool] = True
    model: Module
    loss_fn: LossFn
    reduction: str
    example: tuple[Tree, Tree] | None
    only: tuple[str, ...]

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

    def state(self) -> dict[str, Any]:
        """Return modes, hooks, parameters, their gradients and buffers: what a kernel must leave as it is."""
        return model_state(self.model)

    def lock(self) -> AbstractContextManager[Any]:
        """Return a context that one thread at a time is in, for all problems of the model."""
        return self._lock

    @cached_property
    def _lock(self) -> AbstractContextManager[Any]:
        return lock_of(self.model)

    def sites(self) -> dict[str, list[Site]]:
        """Find every place of each parameter that is differentiated by, by name."""
        with self._lock:  # a call for some parameters alone has the others require no gradients for a while
            found = sites(self.model, self.only)
        if self.only and not found:
            raise ValueError(
                f"parameters={[*self.only]} names no parameter of {type(self.model).__name__} that is trained now"
            )
        return found

    def parameters(self) -> dict[str, Any]:
        """Return the model's own parameters that are differentiated by, by name: not copies."""
        return {name: module._parameters[attribute] for name, ((module, attribute), *_) in self.sites().items()}

    def with_parameters(self, theta: Parameters) -> AbstractContextManager[None]:
        """Return a context in which the model holds `theta`."""
        return swapped_parameters(self.sites(), theta)

    def chosen(self, theta: Any) -> Any:
        """Return what theta has of the parameters that are differentiated by, and of names that the model has not."""
        if not self.only or not isinstance(theta, dict):
            return theta
        others = sites(self.model).keys() - self.sites().keys()
        return {name: one for name, one in theta.items() if name not in others}

    def holding(self, theta: Any = None) -> AbstractContextManager[Any]:
        """Return a context in which other parameters than those that are differentiated by require no gradients.

        They are as theta has them, if it does, and the model's own else. It yields `chosen(theta)`.
        """
        if not self.only or self.cache.get("held"):
            return nullcontext(theta)
        return self._holding(theta)

    @contextmanager
    def _holding(self, theta: Any) -> Iterator[Any]:
        with self.lock(), trained_alone(self.model, self.only, theta) as chosen:
            self.cache["held"] = True
            try:
                yield chosen
            finally:
                self.cache["held"] = False

    def restricted(self, parameters: Any) -> BlackBox:
        """Return the problem of some parameters alone, the same one for the same names; the model stays as it is.

        Args:
            parameters: Names or globs, or one of them.

        Raises:
            TypeError: They are no names.
            ValueError: One of them names no parameter that is trained.
        """
        only = globs_of(parameters)
        known = self.cache.setdefault("restricted", {})
        found: BlackBox | None = known.pop(only, None)
        if found is None:
            with self.lock():
                every, names = self.sites(), set[str]()
                for glob in only:
                    names |= (named := sites(self.model, (glob,)).keys() & every.keys())
                    if not named:
                        raise ValueError(f"parameters: {unknown('trained parameter', glob, every)}")
            found = replace(self, only=tuple(sorted(names)) if self.only else only)  # type: ignore[type-var]
            while len(known) >= MOST_RESTRICTED:  # the one that was used the longest time ago makes room
                known.pop(next(iter(known)), None)
        known[only] = found
        return found

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
