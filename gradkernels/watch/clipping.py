"""Clipped sums in the place of what a backward pass left in `.grad`, and errors for what no watched call has left."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch.autograd import Variable
from torch.autograd.graph import get_gradient_edge

from gradkernels.backend import Array
from gradkernels.engines.hooks.accumulate.accumulators import RowSums, rows_from_terms
from gradkernels.engines.hooks.accumulate.products import SquaredNormsByParameter
from gradkernels.engines.hooks.precision import row_matrix
from gradkernels.quantities.clipped_sum_by import CLIPPED_SUM_BY
from gradkernels.quantities.shared.arguments import one_of
from gradkernels.quantities.shared.cut_options import DROP, PROPAGATE
from gradkernels.quantities.shared.groups import Groups, groups_of, whole_or_groups
from gradkernels.quantities.shared.rules import Limit, Rule, known_rule, limit_of, limits, positive_gamma, weights_of
from gradkernels.watch.backward import BackwardPass
from gradkernels.watch.errors import CannotWatch
from gradkernels.watch.sample_gradients import SampleGradients

CLIPPED_OUT_OF_RANGE = (
    "the squares of some samples' norms have left the range of their dtype, so that their gradients would be left out "
    "of the clipped sum: use float64"
)

LEFT_UNCLIPPED = (
    "{name}.grad holds what a backward pass has left there without a call of the watched module, so that it is not "
    "clipped and noise would hide nothing: call that module, and not its parts; what takes parameters alone, as a "
    "penalty does, is to be added to .grad by torch.autograd.grad"
)


@dataclass(frozen=True)
class Clipping:
    """How samples are weighed by their norms.

    Attributes:
        max_norm: C, for all parameters or by group.
        by: None for the norm over all parameters; `parameter`, or lists of globs by group, for norms of their own.
        rule: `clip` for min(1, C / norm), `automatic` for C / (norm + gamma), or a function of the norms.
        gamma: Of `automatic` (Bu et al. 2022, arXiv:2206.07136).
        drops: Whether samples with a norm that is not finite are left out.
    """

    max_norm: Limit
    by: Any
    rule: Rule
    gamma: float
    drops: bool = False

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


def clipping_of(
    theta: dict[str, Array], max_norm: Any, by: Any, rule: Any, gamma: Any, nonfinite: Any = PROPAGATE
) -> Clipping:
    """Return how samples are weighed, once that has been looked at as `gk.clipped_sum` does.

    Args:
        theta: Parameters by name.
        max_norm: C, for all parameters or by group.
        by: Groups of parameters; None for one of all.
        rule: A word, or a function of the norms.
        gamma: Of `automatic`.
        nonfinite: What becomes of samples whose norms are not finite: `propagate` or `drop`.

    Raises:
        CannotWatch: `.grad` cannot be clipped, or would not be everywhere.
        TypeError: What is no rule, or no groups.
        ValueError: A length that is none, an unknown rule, or groups that do not fit.
    """
    require_kept_gradients(theta)
    drops = one_of("nonfinite", (PROPAGATE, DROP))(nonfinite, 0, theta) == DROP
    given = limits(max_norm, 0, theta), by, known_rule(rule, 0, theta), positive_gamma(gamma, 0, theta)
    found = Clipping(*given, drops)
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
    by_name, weights, lengths = squares.finish(), dict[str, Array](), list[Array]()
    for group, names in clipping.groups(theta):
        norms = sum(by_name[name] for name in names).sqrt() * factor
        lengths.append(norms)
        limit = limit_of(clipping.max_norm, group)
        weights |= dict.fromkeys(names, weights_of(torch, norms, limit, clipping.rule, clipping.gamma) * factor)
    if clipping.drops and not (kept := torch.stack(lengths).isfinite().all(0)).all():
        return _sums_of_kept(samples, weights, kept)
    by_weights = {id(one): RowSums(theta, one) for one in weights.values()}
    sums = {name: by_weights[id(one)] for name, one in weights.items()}
    for use, g in samples.terms:
        for place, target in use.targets.items():
            sums[target.names[0]].add(use, (place,), g)
    finished = {id(one): one.finish() for one in sums.values()}
    found = {name: finished[id(one)][name] for name, one in sums.items()}
    if any(one.isinf().any() for one in lengths) and all(one.isfinite().all() for one in found.values()):
        raise CannotWatch(CLIPPED_OUT_OF_RANGE)
    return found


def _sums_of_kept(samples: SampleGradients, weights: Mapping[str, Array], kept: Array) -> dict[str, Array]:
    """Return the weighted sums of some samples, from rows: what is not finite is in the data of layers too.

    Args:
        samples: Whose terms were kept.
        weights: `(n,)` by parameter.
        kept: Which samples, `(n,)`.

    Raises:
        CannotWatch: Gradients of the others are finite, and only the squares of their norms are not.
    """
    known, found, finite = samples.known, dict[str, Array](), torch.ones_like(kept)
    for name, of in weights.items():
        terms = [(use, place, g) for use, g in samples.terms for place, one in use.targets.items() if name in one.names]
        rows = row_matrix(rows_from_terms(terms, known.theta, [name], known.n)[name])
        finite = finite & rows.isfinite().all(1)
        total = of[kept].to(rows.dtype) @ rows[kept]
        found[name] = total.view(known.theta[name].shape)
    if (finite & ~kept).any():
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


class UnseenPasses:
    """Hears of each backward pass that adds to `.grad`, and raises at the end of one that nobody has seen.

    Args:
        is_seen: Whether the backward pass of that number, as autograd counts, is clipped or is to be.
    """

    def __init__(self, is_seen: Callable[[int], bool]) -> None:
        self._is_seen, self._task = is_seen, -1
        self._known: Mapping[str, Array] | None = None
        self._nodes, self._handles = dict[int, Any](), list[Any]()

    def hear(self, parameters: Mapping[str, Array]) -> None:
        """Hear of all parameters that are trained now; a node of autograd's lives while somebody holds it."""
        if parameters is self._known:
            return
        self._known = parameters
        for name, one in parameters.items():
            if id(one) not in self._nodes:
                self._nodes[id(one)] = node = get_gradient_edge(one).node
                self._handles.append(node.register_prehook(partial(self._given, name)))

    def _given(self, name: str, gradients: Any) -> None:
        task = torch._C._current_graph_task_id()
        if task != self._task:
            self._task = task
            Variable._execution_engine.queue_callback(partial(self._require_seen, name, task))

    def _require_seen(self, name: str, task: int) -> None:
        if not self._is_seen(task):
            raise CannotWatch(LEFT_UNCLIPPED.format(name=name))

    def close(self) -> None:
        """Hear of nothing any more."""
        for handle in self._handles:
            handle.remove()
        self._known, self._nodes, self._handles = None, {}, []
