"""Clipped sums in the place of what a backward pass left in `.grad`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from gradkernels.backend import Array
from gradkernels.engines.hooks.accumulate.accumulators import RowSums
from gradkernels.engines.hooks.accumulate.products import SquaredNormsByParameter
from gradkernels.quantities.shared.groups import groups_of
from gradkernels.watch.backward import BackwardPass, SampleGradients

RULES = ("clip", "automatic")
WHOLE = "all"

Rule = str | Callable[[Array], Array]
"""`clip`, `automatic`, or a function of the norms `(n,)` that gives the weights `(n,)`."""


@dataclass(frozen=True)
class Clipping:
    """How samples are weighed by their norms.

    Attributes:
        max_norm: C, for all parameters or by group.
        by: None for the norm over all parameters; `parameter`, or lists of globs by group, for norms of their own.
        rule: `clip` for min(1, C / norm), `automatic` for C / (norm + gamma), or a function of the norms.
        gamma: Of `automatic` (Bu et al. 2022, arXiv:2206.07136).
    """

    max_norm: float | Mapping[str, float] = 1.0
    by: Any = None
    rule: Rule = "clip"
    gamma: float = 0.01

    def __post_init__(self) -> None:
        """Refuse a length that is none, and an unknown rule."""
        lengths = list(self.max_norm.values()) if isinstance(self.max_norm, Mapping) else [self.max_norm]
        if not all(isinstance(one, int | float) and one > 0 for one in lengths):
            raise ValueError(f"max_norm is {self.max_norm!r}; it must be a positive number, or one for each group")
        if isinstance(self.max_norm, Mapping) and self.by is None:
            raise ValueError("max_norm has a number for each group, and there are no groups: pass by=")
        if not callable(self.rule) and self.rule not in RULES:
            raise ValueError(f"rule is {self.rule!r}; it must be 'clip', 'automatic' or a function of the norms")

    def weights(self, norms: Array, group: str) -> Array:
        """Return the weights `(n,)` of samples with these norms over a group of parameters."""
        if callable(self.rule):
            return self.rule(norms)
        max_norm = self.max_norm[group] if isinstance(self.max_norm, Mapping) else self.max_norm
        return max_norm / (norms + self.gamma) if self.rule == "automatic" else 1 / (norms / max_norm).clamp(min=1)


def clipped_sums(samples: SampleGradients, clipping: Clipping, factor: float) -> dict[str, Array]:
    """Return the sums of weighted gradients by parameter, in the dtypes that sums are taken in.

    Args:
        samples: Whose terms were kept.
        clipping: How they are weighed.
        factor: What gradients are multiplied with to be the samples' own.
    """
    theta, n = samples.known.theta, samples.known.n
    everything = ((WHOLE, tuple(theta)),)
    groups = everything if clipping.by is None else groups_of(clipping.by, n, theta)
    squares = SquaredNormsByParameter(theta, samples.known.shared, n)
    for use, g in samples.terms:
        squares(use, g)
    by_name, sums = squares.finish(), dict[str, RowSums]()
    for group, names in groups:
        norms = sum(by_name[name] for name in names).sqrt() * factor
        of_group = RowSums(theta, clipping.weights(norms, group) * factor)
        sums |= dict.fromkeys(names, of_group)
    for use, g in samples.terms:
        for place, target in use.targets.items():
            if target.names[0] in sums:
                sums[target.names[0]].add(use, (place,), g)
    finished = {id(one): one.finish() for one in sums.values()}
    return {name: finished[id(one)][name] for name, one in sums.items()}


def put_in_place(backward: BackwardPass, clipping: Clipping, factors: Mapping[int, float]) -> None:
    """Put the clipped sum of a backward pass into `.grad`, added to what was there before it.

    Args:
        backward: That is over.
        clipping: How samples are weighed.
        factors: What gradients are multiplied with, by set of samples.
    """
    with torch.no_grad():
        found = [clipped_sums(one, clipping, factors[key]) for key, one in backward.samples.items()]
        for name, parameter in backward.theta.items():
            parts = [sums[name] for sums in found if name in sums]
            if parameter.grad is None or not parts:
                continue
            total = torch.stack(parts).sum(0) if len(parts) > 1 else parts[0]
            before = backward.before.get(name)
            parameter.grad.copy_(total if before is None else total + before)
