"""Several uses of one linear weight, as in a loop over cells: one use, which has the steps of all of them.

A row is then written once, by one product, instead of being added to by each use.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import torch

from gradkernels.backend import Array
from gradkernels.engines.hooks.accumulate.inner_products import UseTerm
from gradkernels.engines.hooks.parameter_use import ParameterUse
from gradkernels.engines.hooks.rules.linear.linear import Linear
from gradkernels.engines.hooks.rules.materialized import FormedRows


class WaitingMaps:
    """Linear maps of parameters that have several uses, kept until all of them have come.

    Args:
        shared: The parameters.
    """

    def __init__(self, shared: Iterable[str]) -> None:
        self._shared = frozenset(shared)
        self._terms: list[UseTerm] = []

    def keep(self, use: ParameterUse, place: Any, g: Array) -> bool:
        """Keep a target of a use if it is one of those; return whether it is.

        Args:
            use: The use.
            place: Key of the target.
            g: Gradient of the use's output, samples first.
        """
        kept = isinstance(use.rule, Linear) and not self._shared.isdisjoint(use.targets[place].names)
        if kept:
            self._terms.append((use, place, g))
        return kept

    def taken(self, names: Collection[str] | None = None) -> list[UseTerm]:
        """Return what was kept, of some parameters or of all, as few uses, and forget it."""
        mine, rest = list[UseTerm](), list[UseTerm]()
        for term in self._terms:
            of = term[0].targets[term[1]].names
            (mine if names is None or not set(names).isdisjoint(of) else rest).append(term)
        self._terms = rest
        return merged(mine)


def merged(terms: Sequence[UseTerm]) -> list[UseTerm]:
    """Return uses, targets and gradients of which those of one linear weight or bias are one."""
    groups: dict[Any, list[UseTerm]] = {}
    for number, (use, place, g) in enumerate(terms):
        target = use.targets[place]
        alike = (place, target.names[0]) if target.direct and isinstance(use.rule, Linear) else number
        groups.setdefault(alike, []).append((use, place, g))
    return [_one_of(group) if len(group) > 1 else group[0] for group in groups.values()]


def _one_of(terms: Sequence[UseTerm]) -> UseTerm:
    use, place, _ = terms[0]
    target = use.targets[place]
    if place == "bias":
        rows = sum(g if g.ndim == 2 else g.flatten(1, -2).sum(1) for *_, g in terms)
        return use.like(FormedRows(target)), "rows", rows
    factors = [one.rule.factors(g) for one, _, g in terms if isinstance(one.rule, Linear)]
    rows, columns = (torch.cat([_steps(factor) for factor in each], 1) for each in zip(*factors, strict=True))
    return use.like(Linear({"weight": target}, columns)), "weight", rows


def _steps(factor: Array) -> Array:
    return factor if factor.ndim == 3 else factor[:, None]
