"""Clipped sums in the place of what a backward pass left in `.grad`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from gradkernels.backend import Array
from gradkernels.engines.hooks.accumulate.accumulators import RowSums
from gradkernels.engines.hooks.accumulate.products import SquaredNormsByParameter
from gradkernels.quantities.clipped_sum_by import CLIPPED_SUM_BY
from gradkernels.quantities.shared.groups import Groups, groups_of, whole_or_groups
from gradkernels.quantities.shared.rules import Limit, Rule, known_rule, limit_of, limits, positive_gamma, weights_of
from gradkernels.watch.backward import BackwardPass, SampleGradients
from gradkernels.watch.errors import CannotWatch

CLIPPED_OUT_OF_RANGE = (
    "the squares of some samples' norms have left the range of their dtype, so that their gradients would be left out "
    "of the clipped sum: use float64"
)


@dataclass(frozen=True)
class Clipping:
    """How samples are weighed by their norms.

    Attributes:
        max_norm: C, for all parameters or by group.
        by: None for the norm over all parameters; `parameter`, or lists of globs by group, for norms of their own.
        rule: `clip` for min(1, C / norm), `automatic` for C / (norm + gamma), or a function of the norms.
        gamma: Of `automatic` (Bu et al. 2022, arXiv:2206.07136).
    """

    max_norm: Limit
    by: Any
    rule: Rule
    gamma: float

    def groups(self, theta: dict[str, Array]) -> Groups:
        """Return the names of each group's parameters.

        Raises:
            CannotWatch: A parameter is in none, and its `.grad` would stay as backward() has left it.
        """
        found = whole_or_groups(None if self.by is None else groups_of(self.by, 0, theta), theta)
        inside = {name for _, names in found for name in names}
        if outside := [name for name in theta if name not in inside]:
            raise CannotWatch(
                f"by has no group for {', '.join(outside[:4])}, whose .grad would stay as backward() has left it, "
                "uncut: put each trained parameter into a group"
            )
        return found


def clipping_of(theta: dict[str, Array], max_norm: Any, by: Any, rule: Any, gamma: Any) -> Clipping:
    """Return how samples are weighed, once that has been looked at as `gk.clipped_sum` does.

    Args:
        theta: Parameters by name.
        max_norm: C, for all parameters or by group.
        by: Groups of parameters; None for one of all.
        rule: A word, or a function of the norms.
        gamma: Of `automatic`.

    Raises:
        CannotWatch: `.grad` cannot be clipped, or would not be everywhere.
        TypeError: What is no rule, or no groups.
        ValueError: A length that is none, an unknown rule, or groups that do not fit.
    """
    require_kept_gradients(theta)
    found = Clipping(limits(max_norm, 0, theta), by, known_rule(rule, 0, theta), positive_gamma(gamma, 0, theta))
    groups = found.groups(theta)
    options = {"max_norm": found.max_norm, "by": None if by is None else groups, "rule": found.rule}
    CLIPPED_SUM_BY.agree(options)
    return found


def require_kept_gradients(theta: Mapping[str, Array]) -> None:
    """Raise a CannotWatch if a hook takes a parameter's `.grad` before a clipped sum can be put there."""
    for name, parameter in theta.items():
        if getattr(parameter, "_post_accumulate_grad_hooks", None):
            raise CannotWatch(
                f"{name} has a hook (register_post_accumulate_grad_hook) that gets .grad before a clipped sum can be "
                "put there: take it off, and do after backward() what it does"
            )


def clipped_sums(samples: SampleGradients, clipping: Clipping, factor: float) -> dict[str, Array]:
    """Return the sums of weighted gradients by parameter, in the dtypes that sums are taken in.

    Args:
        samples: Whose terms were kept.
        clipping: How they are weighed.
        factor: What gradients are multiplied with to be the samples' own.

    Raises:
        CannotWatch: Norms of gradients that are finite are not.
    """
    theta, n = samples.known.theta, samples.known.n
    squares = SquaredNormsByParameter(theta, samples.known.shared, n)
    for use, g in samples.terms:
        squares(use, g)
    by_name, sums, lengths = squares.finish(), dict[str, RowSums](), list[Array]()
    for group, names in clipping.groups(theta):
        norms = sum(by_name[name] for name in names).sqrt() * factor
        lengths.append(norms)
        limit = limit_of(clipping.max_norm, group)
        of_group = RowSums(theta, weights_of(torch, norms, limit, clipping.rule, clipping.gamma) * factor)
        sums |= dict.fromkeys(names, of_group)
    for use, g in samples.terms:
        for place, target in use.targets.items():
            sums[target.names[0]].add(use, (place,), g)
    finished = {id(one): one.finish() for one in sums.values()}
    found = {name: finished[id(one)][name] for name, one in sums.items()}
    if any(one.isinf().any() for one in lengths) and all(one.isfinite().all() for one in found.values()):
        raise CannotWatch(CLIPPED_OUT_OF_RANGE)
    return found


def put_in_place(
    backward: BackwardPass, clipping: Clipping, factors: Mapping[int, float], scale: float, unscaled: bool
) -> None:
    """Put the clipped sum of a backward pass into `.grad`, added to what was there before it.

    Args:
        backward: That is over.
        clipping: How samples are weighed.
        factors: What gradients are multiplied with, by set of samples.
        scale: What a GradScaler takes off `.grad`; 1 where there is none.
        unscaled: Whether it has done so.
    """
    require_kept_gradients(backward.theta)
    with torch.no_grad():
        found = [clipped_sums(one, clipping, factors[key]) for key, one in backward.samples.items()]
        for name, before in backward.before.items():
            parts, grad = [sums[name] for sums in found], backward.theta[name].grad
            if grad is None or not parts:
                continue
            total = torch.stack(parts).sum(0) if len(parts) > 1 else parts[0]
            total = total if scale == 1 else total * scale
            total = total if before is None else total + before
            grad.copy_(total / scale if unscaled else total)
