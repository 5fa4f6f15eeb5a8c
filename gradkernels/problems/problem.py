"""What every Problem offers: the noun, and nothing of any particular loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, NamedTuple

import numpy as np

from gradkernels.backend import Array
from gradkernels.tree import Tree

Floats = np.ndarray[Any, Any]


class Truth(NamedTuple):
    """The reference at one point and data set, float64.

    Attributes:
        rows: Per-sample gradients, `(n, *theta.shape)`.
        scale: Scale of the rounding error in each entry of `rows`: a working precision with unit roundoff u cannot
            compute it better than about u times this, which is at least |gradient| and larger where terms cancel.
        gradient: Derivative of the mean loss, of theta's shape: not the mean of `rows`, which it must equal.
    """

    rows: Floats
    scale: Floats
    gradient: Floats


class Problem(ABC):
    """A per-sample loss of parameters `theta`, features `x` and target `y`, and data to draw.

    Subclasses are frozen dataclasses: equal problems compare and hash equal, so that a kernel built
    once for a problem can be found again. Throughout, n is the number of samples, d of features and
    p of parameters.

    Attributes:
        integer_target: Whether targets are class numbers, int64, instead of numbers of the case's dtype.
    """

    integer_target: ClassVar[bool] = False

    @property
    @abstractmethod
    def name(self) -> str:
        """Name in keys, tables and CSV; tells problems of different structure apart."""

    @abstractmethod
    def loss(self, theta: Array, x: Array, y: Tree) -> Array:
        """Unscaled loss of each sample, `(n,)`; one sample without its axis gives a scalar.

        Written with functions that numpy, torch and JAX share (see `gradkernels.elementwise.namespace`), so that
        each of them can differentiate it.
        """

    @abstractmethod
    def shape(self, features: int) -> tuple[int, ...]:
        """Shape of `theta` for `features` features."""

    @abstractmethod
    def draw(self, n: int, seed: int, features: int = 1) -> tuple[Floats, Floats, Tree]:
        """Synthetic float64 `(theta, x, y)` with n samples; the same for the same arguments."""

    @abstractmethod
    def draw_theta(self, features: int, seed: int) -> Floats:
        """Parameters to differentiate at, float64: a point away from the optimum."""

    @abstractmethod
    def validate(self, theta: Array, x: Array, y: Tree) -> None:
        """Raise a ValueError that names the shapes given and allowed if they do not fit together."""

    def targets(self, y: Tree, seed: int) -> Tree:
        """The `y` that a data set's target column `(n,)` is; a ValueError if this loss is not defined there."""
        return y

    @abstractmethod
    def truth(self, theta: Floats, x: Floats, y: Tree) -> Truth:
        """What every kernel is held against, from the loss alone; see `gradkernels.problems.exact`."""
