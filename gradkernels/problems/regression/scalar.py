"""Regressions with one predictor per sample: two methods make a new one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradkernels.backend import Array
from gradkernels.elementwise import COMPLEX, STEP
from gradkernels.problems.regression.regression import Regression
from gradkernels.problems.regression.targets import EVERY
from gradkernels.truth import Floats

NEIGHBOURHOOD = 1e-6  # relative; wider than any rounding error of eta in float32


@dataclass(frozen=True, kw_only=True)
class ScalarRegression(Regression):
    """A loss of one predictor per sample; two methods make a new one.

        @dataclass(frozen=True, kw_only=True)
        class LogCosh(ScalarRegression):
            family = "logcosh"

            def loss_of(self, xp, eta, y):
                size = xp.abs(eta - y)
                return size + xp.log1p(xp.exp(-2 * size))

            def slope(self, xp, eta, y):
                return xp.tanh(eta - y)

    Its own parameters are fields, floats. Targets that a real number plus noise does not make sense for take
    `draw_target` and `misfit` as well.
    """

    @property
    def outputs(self) -> tuple[int, ...]:
        """One predictor per sample."""
        return ()

    def draw_target(self, rng: np.random.Generator, eta: Floats) -> Floats:
        """Add standard normal noise to eta."""
        return eta + rng.standard_normal(eta.shape)

    def misfit(self, target: Floats) -> str:
        """Allow any number."""
        return ""

    @property
    def span(self) -> tuple[float, float] | None:
        """Any number; not heeded where a derived class has a `misfit` of its own."""
        return EVERY

    def slope_scale(self, eta: Floats, y: Floats, error: Floats) -> Floats:
        """Compute |slope| + |y d slope / d y| + error * max |d slope / d eta| nearby, where a kink may lie.

        Args:
            eta: Predictor of each sample, `(n,)`.
            y: Target of each sample, `(n,)`.
            error: Scale of eta's rounding error, `(n,)`.
        """
        near = (eta, eta - NEIGHBOURHOOD * error, eta + NEIGHBOURHOOD * error)
        steepest = np.max([np.abs(self._derivative(place + STEP * 1j, y)) for place in near], axis=0)
        by_target = np.abs(y * self._derivative(eta, y + STEP * 1j))
        return np.abs(self.slope(np, eta, y)) + by_target + error * steepest

    def _derivative(self, eta: Array, y: Array) -> Floats:
        stepped: Floats = np.imag(self.slope(COMPLEX, eta, y)) / STEP
        return stepped
