"""The sum of the gradients, each cut by a rule of its norms over groups of parameters; and these norms.

One length for all parameters (Abadi et al. 2016), one for each of them or for each group (McMahan et al. 2018,
arXiv:1710.06963); min(1, C / norm), C / (norm + gamma) (Bu et al. 2022, arXiv:2206.07136), or any function of norms.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

from gradkernels.backend import Array
from gradkernels.quantities.shared.arguments import one_of
from gradkernels.quantities.shared.cut_options import DROP, PROPAGATE, CutOptions
from gradkernels.quantities.shared.definitions import in_own_dtype, row_lengths, weighted
from gradkernels.quantities.shared.groups import (
    PARAMETER,
    Groups,
    arrays_by_name,
    columns_of,
    groups_of,
    places_of,
    whole_or_groups,
)
from gradkernels.quantities.shared.rules import (
    AUTOMATIC,
    CLIP,
    Rule,
    known_rule,
    limits,
    of_some,
    positive_gamma,
    stand_in,
)
from gradkernels.quantity import Draw, Option, Options, Quantity, Truth, flat
from gradkernels.tree import Tree, each

T = TypeVar("T")


class Clipped(NamedTuple, Generic[T]):
    """A sum of theta's structure, and the norms before the cut: `(n,)`, or a dict of them by group."""

    sum: T
    norms: Any


def _shape(n: int, theta: Tree, **options: Any) -> Any:
    return theta


def _structure(n: int, theta: Tree, by: Groups | None = None, **options: Any) -> Clipped[Any]:
    kept = {name for _, names in whole_or_groups(by, theta) for name in names}
    sums = {
        name: np.broadcast_to(0.0, tuple(part.shape)) for name, part in arrays_by_name(theta).items() if name in kept
    }
    norms = {group: np.broadcast_to(0.0, (n,)) for group, _ in whole_or_groups(by, theta)}
    return result_of(theta, by, sums, norms)


def result_of(like: Tree, by: Groups | None, sums: dict[str, Any], norms: dict[str, Any]) -> Clipped[Any]:
    """Return sums and norms as the caller knows parameters and groups.

    Args:
        like: Of theta's structure.
        by: Groups; None for one of all parameters.
        sums: By name of the parameter.
        norms: By group.
    """
    (first, *_) = norms.values()
    one_array = not isinstance(like, dict)
    return Clipped(sums.popitem()[1] if one_array else sums, first if by is None else norms)


def _of(xp: Any, g: Tree, **options: Any) -> Clipped[Any]:
    asked = CutOptions(**options)
    parts, groups = arrays_by_name(g), asked.groups(g)
    chosen = {group: {name: parts[name] for name in names} for group, names in groups}
    lengths = {group: row_lengths(xp, of_group) for group, of_group in chosen.items()}
    weights = {group: asked.weights(xp, group, one) for group, one in lengths.items()}
    if asked.drops:
        kept = _all_finite(xp, [*lengths.values()])
        # Zero times NaN is not zero.
        chosen = each(lambda rows: xp.where(kept.reshape(-1, *[1] * (rows.ndim - 1)), rows, 0), chosen)
        weights = each(lambda one: xp.where(kept, one, 0), weights)
    sums = {name: one for group, of in chosen.items() for name, one in weighted(xp, weights[group], of).items()}
    norms = {group: in_own_dtype(one, chosen[group]) for group, one in lengths.items()}
    return result_of(g, asked.by, {name: sums[name] for name in parts if name in sums}, norms)


def _all_finite(xp: Any, norms: list[Array]) -> Array:
    kept = xp.isfinite(norms[0])
    for one in norms[1:]:
        kept = kept & xp.isfinite(one)
    return kept


def _expect(truth: Truth, **options: Any) -> tuple[Any, Any]:
    asked, rows, places = CutOptions(**options), flat(truth.rows, 1), places_of(truth.theta)
    groups = asked.groups(truth.theta)
    found = {group: truth.norms_over(columns_of(names, places)) for group, names in groups}
    kept = np.all([np.isfinite(norms) for norms, _ in found.values()], 0)
    used = kept if asked.drops else np.ones_like(kept)
    value, scale = np.zeros(rows.shape[1]), np.zeros(rows.shape[1])
    for group, names in groups:
        at, norms = columns_of(names, places), found[group][0]
        factor = np.where(used, _factor(norms, asked.limit(group), asked.rule, asked.gamma), 0.0)
        value[at] = factor[used] @ rows[np.ix_(used, at)]
        # The factor has the norm's relative error, hence the 2.
        scale[at] = 2 * flat(truth.weighted_scale(abs(factor)))[at]
    inside = np.sort(np.concatenate([columns_of(names, places) for _, names in groups]))
    every, of_norms = zip(*found.values(), strict=True)
    return np.concatenate([value[inside], *every]), np.concatenate([scale[inside], *of_norms])


def _factor(norms: Any, limit: float, rule: Rule, gamma: float) -> Any:
    if callable(rule):
        return rule(norms)
    if rule == AUTOMATIC:
        return limit / (norms + gamma)
    with np.errstate(divide="ignore"):
        return np.where(norms > limit, limit / norms, np.where(np.isnan(norms), np.nan, 1.0))


def _agree(options: Options) -> None:
    by, max_norm = options.get("by"), options.get("max_norm", 1.0)
    groups = None if by is None else {group for group, _ in by}
    if isinstance(max_norm, dict):
        if groups is None:
            raise ValueError("max_norm is a dict, one length for each group, and there are no groups; pass by= too")
        if missing := sorted(groups - max_norm.keys()):
            raise ValueError(f"max_norm lacks {', '.join(missing[:4])}; give each group of by= its length")
        if others := sorted(max_norm.keys() - groups):
            raise ValueError(f"max_norm has {', '.join(others[:4])}, no group of by=; there are {_some(groups)}")
    lengths = max_norm.values() if isinstance(max_norm, dict) else [max_norm]
    if options.get("rule") == AUTOMATIC and math.inf in lengths:
        raise ValueError("max_norm is inf; the automatic rule multiplies by it, give it a finite length")


def _some(groups: set[str]) -> str:
    return ", ".join(sorted(groups)[:6])


def _needs(draw: Draw) -> Options:
    return {"by": groups_of(PARAMETER, draw.n, draw.theta)}


def _settings(draw: Draw) -> Iterator[tuple[str, Options]]:
    norms = np.asarray(draw.norms, np.float64)
    finite = norms[np.isfinite(norms)]
    middle = (float(np.median(finite)) if len(finite) else 0.0) or 1.0
    names = list(arrays_by_name(draw.theta))
    groups: dict[str, Groups | None] = {
        "with groups": (("first", tuple(names[:1])), ("others", tuple(names[1:]))),
        "over all": None,
        "by parameter": _needs(draw)["by"],
    }
    if len(names) == 1:
        groups.pop("with groups")
    rules: tuple[Rule, ...] = (CLIP, stand_in, AUTOMATIC) if len(finite) == len(norms) else ()
    for (says, by), rule in product(groups.items(), rules):
        if rule == CLIP or by is None or len(names) > 1:  # of one parameter, groups have but a name
            yield _one_setting(says, by, rule, middle)
    for says, by in groups.items():
        label, options = _one_setting(says, by, AUTOMATIC, middle)
        yield f"{label}, dropping", options | {"nonfinite": DROP}


def _one_setting(says: str, by: Groups | None, rule: Rule, middle: float) -> tuple[str, Options]:
    """Return what kernels are proven with: each group has a length of its own, by which about half are clipped.

    Args:
        says: What a message says of the groups.
        by: They; None for one of all parameters.
        rule: By which is cut.
        middle: About the length of the gradients.
    """
    lengths = None if by is None else {group: middle * (0.3 + 0.4 * (i % 2)) for i, (group, _) in enumerate(by)}
    word = rule if isinstance(rule, str) else "a function"
    options = {"by": by, "rule": rule, "gamma": 0.5 * middle, "max_norm": lengths or middle}
    return f" {says} by {word}", options


CLIPPED_SUM_BY = Quantity(
    "clipped_sum_by",
    _shape,
    _of,
    _expect,
    options=(
        Option("max_norm", limits),
        Option("by", groups_of, fixed=True),
        Option("rule", known_rule, fixed=True, of_some=of_some),
        Option("gamma", positive_gamma),
        Option("nonfinite", one_of("nonfinite", (PROPAGATE, DROP)), fixed=True),
    ),
    per_parameter=False,
    structure=_structure,
    sample_parts=("norms",),
    drops=True,
    agree=_agree,
    needs=_needs,
    settings=_settings,
    rank=13,
)
