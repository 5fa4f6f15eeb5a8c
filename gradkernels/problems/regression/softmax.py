"""Softmax regression: one predictor for each class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gradkernels.backend import Array
from gradkernels.elementwise import Namespace
from gradkernels.problems.regression.regression import Regression
from gradkernels.truth import Floats


@dataclass(frozen=True)
class SoftmaxRegression(Regression):
    """Cross-entropy log(sum_k e^eta_k) - eta_y of class numbers y = 0, ..., classes - 1.

    Other numbers are refused where data come in. A kernel by itself does not look for them: closed forms leave eta_y
    out, and differentiation raises IndexError (torch) or gives NaN (JAX).

    Attributes:
        classes: K, at least 2; theta is `(d+1, K)`.
    """

    classes: int = 3
    family: ClassVar[str] = "softmax"
    integer_target: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Refuse what is no number of classes."""
        super().__post_init__()
        if isinstance(self.classes, bool) or not isinstance(self.classes, int | np.integer) or self.classes < 2:
            raise ValueError(f"classes is {self.classes!r}; it must be a whole number of at least 2")
        object.__setattr__(self, "classes", int(self.classes))

    @property
    def outputs(self) -> tuple[int, ...]:
        """`(classes,)`."""
        return (self.classes,)

    def loss_of(self, xp: Namespace, eta: Array, y: Array) -> Array:
        """Compute log(sum_k e^(eta_k - m)) - (eta_y - m) with m the largest eta_k, so that nothing overflows.

        Args:
            xp: Functions of the arrays' library.
            eta: Predictors of each sample, `(n, classes)`.
            y: Class number of each sample.
        """
        shifted = eta - xp.amax(eta, -1, keepdims=True)
        return xp.log(xp.exp(shifted).sum(-1)) - _picked(xp, shifted, y)

    def slope(self, xp: Namespace, eta: Array, y: Array) -> Array:
        """Compute softmax(eta)_k - [y = k].

        Args:
            xp: Functions of the arrays' library.
            eta: Predictors of each sample, `(n, classes)`.
            y: Class number of each sample.
        """
        powers = xp.exp(eta - xp.amax(eta, -1, keepdims=True))
        share = powers / powers.sum(-1, keepdims=True)
        return xp.where(xp.arange(self.classes, device=eta.device) == y[..., None], share - 1, share)

    def slope_scale(self, eta: Floats, y: Floats, error: Floats) -> Floats:
        """Compute |slope| + [y = k] + softmax(eta)_k (error_k + max_j error_j): shares move with every predictor.

        Args:
            eta: Predictors, `(n, classes)`.
            y: Class numbers, `(n,)`.
            error: Scale of eta's rounding error, of its shape.
        """
        slope = self.slope(np, eta, y)
        picked = np.arange(self.classes) == y[:, None]
        return np.abs(slope) + picked + (slope + picked) * (error + error.max(-1, keepdims=True))

    def draw_target(self, rng: np.random.Generator, eta: Floats) -> Floats:
        """Draw a class each, with the probabilities that softmax gives them (the Gumbel-max trick)."""
        return np.argmax(eta + rng.gumbel(size=eta.shape), -1)

    def misfit(self, target: Floats) -> str:
        """Refuse what is no class number."""
        numbers = bool(((target == np.floor(target)) & (target >= 0) & (target < np.inf)).all())
        largest = target.max(initial=0)
        if numbers and largest < self.classes:
            return ""
        hint = f" (softmax(classes={int(largest) + 1}) takes these)" if numbers else ""
        if numbers and largest == self.classes and target.min() == 1:
            hint = " (for numbers from 1 on pass y - 1)"
        return f"targets must be whole numbers from 0 to {self.classes - 1}{hint}"

    @property
    def span(self) -> tuple[float, float] | None:
        """Class numbers, which as arrays are integers."""
        return 0, self.classes - 1


def _picked(xp: Namespace, eta: Array, y: Array) -> Array:
    """Return eta[i, y[i]]."""
    along = xp.take_along_dim if xp.__name__ == "torch" else xp.take_along_axis
    return along(eta, y[..., None], -1)[..., 0]
