"""By what the gradients of samples are cut: the options of a clipped sum, as its definition and kernels take them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gradkernels.backend import Array
from gradkernels.quantities.shared.groups import Groups, whole_or_groups
from gradkernels.quantities.shared.rules import CLIP, GAMMA, Limit, Rule, limit_of, weights_of
from gradkernels.tree import Tree

PROPAGATE, DROP = "propagate", "drop"
"""What becomes of samples that are not finite: they are summed like others, or are left out."""


@dataclass(frozen=True)
class CutOptions:
    """How samples are weighed by their norms.

    Attributes:
        max_norm: One length for all groups, or one for each by its name.
        by: Names of parameters by group; None for the norm over all parameters.
        rule: From norms to weights.
        gamma: Of the automatic rule.
        nonfinite: `propagate` or `drop`.
    """

    max_norm: Limit = 1.0
    by: Groups | None = None
    rule: Rule = CLIP
    gamma: float = GAMMA
    nonfinite: str = PROPAGATE

    @property
    def drops(self) -> bool:
        """Whether samples with a norm that is not finite are left out."""
        return self.nonfinite == DROP

    def groups(self, like: Tree) -> Groups:
        """Return the names of each group's parameters, one group of all where none were asked for."""
        return whole_or_groups(self.by, like)

    def limit(self, group: str) -> float:
        """Return the length to which the norms of a group are cut."""
        found: float = limit_of(self.max_norm, group)
        return found

    def weights(self, xp: Any, group: str, norms: Array) -> Array:
        """Return the weight of each sample in the sum of a group, `(n,)`.

        Args:
            xp: `numpy`, `torch` or `jax.numpy`.
            group: Its name.
            norms: Of the gradients over its parameters, `(n,)`.
        """
        return weights_of(xp, norms, self.limit(group), self.rule, self.gamma)
