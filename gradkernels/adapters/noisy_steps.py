"""Steps of DP-SGD in a loop that a library owns: clipped sums by `gk.watch`, and noise on them before the optimizer."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from gradkernels.problems.module.structure import Module
from gradkernels.watch import Watch
from gradkernels.watch.clipping import clipping_of

OUTSIDE = (
    "the optimizer steps with a parameter {shape} that the watched module does not hold, so that its .grad is not "
    "clipped: watch a module that holds all trained parameters, or freeze it"
)


NOISE_IN_SEVERAL = (
    "several processes average .grad before a clipped sum can be put there, so that noisy= takes one process: in "
    "several use the PrivacyEngine of gradkernels.adapters.opacus"
)


@dataclass(frozen=True)
class NoisySteps:
    """How each step is made private (Abadi et al. 2016, arXiv:1607.00133).

    Attributes:
        max_norm: C: longer gradients of samples are cut to it; a number, or one by group.
        noise_multiplier: Standard deviation of the noise over the sensitivity of the sum: C, or the root of the
            groups' squares added up.
        by: None for the norm over all parameters; `parameter`, or lists of globs by group, for norms of their own.
        rule: `clip` or `automatic`; with a function of the norms nothing is known of the sensitivity, and
            `noise_multiplier` must be 0.
        gamma: Of `automatic`.
        generator: Of the noise; None for torch's own.
    """

    max_norm: float | Mapping[str, float] = 1.0
    noise_multiplier: float = 0.0
    by: Any = None
    rule: str | Callable[[Any], Any] = "clip"
    gamma: float = 0.01
    generator: torch.Generator | None = None

    def __post_init__(self) -> None:
        """Refuse noise that is none, or of which nobody could say how much it must be."""
        if not (math.isfinite(self.noise_multiplier) and self.noise_multiplier >= 0):
            raise ValueError(f"noise_multiplier is {self.noise_multiplier!r}; it must be 0 or a positive number")
        if callable(self.rule) and self.noise_multiplier:
            raise ValueError("rule= is a function, whose sums have no known sensitivity: pass noise_multiplier=0")

    def begin(self, seen: Watch) -> None:
        """Have each backward pass leave the clipped sum of its samples' gradients in `.grad`."""
        seen.clip(self.max_norm, by=self.by, rule=self.rule, gamma=self.gamma)

    def finish(self, parameters: Mapping[str, torch.nn.Parameter], samples: int) -> None:
        """Add noise to the sums in `.grad`, and divide by the number of samples that a step is expected to have.

        Args:
            parameters: By name; in the order of those that are trained the noise is drawn, the others stay.
            samples: That number.
        """
        trained = {name: one for name, one in parameters.items() if one.requires_grad}
        deviation = self.noise_multiplier * self._sensitivity(trained)
        for one in trained.values():
            if one.grad is None:
                one.grad = torch.zeros_like(one)
            if deviation:
                one.grad += torch.normal(
                    0.0, deviation, one.shape, dtype=one.dtype, device=one.device, generator=self.generator
                )
            one.grad /= samples

    def _sensitivity(self, parameters: Mapping[str, torch.nn.Parameter]) -> float:
        clipping = clipping_of(dict(parameters), self.max_norm, self.by, self.rule, self.gamma)
        limits = clipping.max_norm
        lengths = [
            limits[key] if isinstance(limits, Mapping) else limits for key, _ in clipping.groups(dict(parameters))
        ]
        return math.hypot(*(float(one) for one in lengths))


def require_watched(model: Module, optimizer: Any) -> None:
    """Raise a ValueError where an optimizer steps with a parameter that is not clipped.

    Args:
        model: That is watched, and whose other gradients the watch refuses.
        optimizer: That steps next.
    """
    inside = {id(one) for one in model.parameters()}
    for one in (one for group in optimizer.param_groups for one in group["params"]):
        if one.requires_grad and id(one) not in inside:
            raise ValueError(OUTSIDE.format(shape=tuple(one.shape)))
