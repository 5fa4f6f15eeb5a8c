"""What every Problem offers: the noun, and nothing of any particular loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from gradkernels.backend import Array

Floats = np.ndarray[Any, Any]


class Problem(ABC):
    """A per-sample loss of parameters `theta`, features `x` and target `y`, and data to draw.

    Subclasses are frozen dataclasses: equal problems compare and hash equal, so that a kernel built
    once for a problem can be found again. Throughout, n is the number of samples, d of features and
    p of parameters.
    """

    @property
    @abstractmethod
    def name(self) -> str:
        """Name in keys, tables and CSV; tells problems of different structure apart."""

    @abstractmethod
    def loss(self, theta: Array, x: Array, y: Array) -> Array:
        """Unscaled loss of each sample, shape `y.shape`; one sample without its axis gives a scalar.

        Written with operators that numpy, torch and JAX share, so that each of them can differentiate it.
        """

    @abstractmethod
    def shape(self, features: int) -> tuple[int, ...]:
        """Shape of `theta` for `features` features."""

    @abstractmethod
    def draw(self, n: int, seed: int, features: int = 1) -> tuple[Floats, Floats, Floats]:
        """Synthetic float64 `(theta, x, y)` with n samples; the same for the same arguments."""

    @abstractmethod
    def draw_theta(self, features: int, seed: int) -> Floats:
        """Parameters to differentiate at, float64: a point away from the optimum."""

    @abstractmethod
    def validate(self, theta: Array, x: Array, y: Array) -> None:
        """Raise a ValueError that names the shapes given and allowed if they do not fit together."""

    @abstractmethod
    def rounding(self, theta: Floats, x: Floats, y: Floats) -> Floats:
        """Scale of the rounding error in each per-sample gradient, entry by entry, in units of u.

        Shape `(n, *theta.shape)`. A working precision with unit roundoff u cannot compute entry (i, j)
        better than about u times this; it is at least |gradient| and larger where terms cancel.
        """
