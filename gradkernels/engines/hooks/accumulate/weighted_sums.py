"""Several sums of rows from one backward pass: one for each weighting, or one for each group of samples."""

from __future__ import annotations

import torch

from gradkernels.backend import Array
from gradkernels.engines.hooks.accumulate.accumulators import RowSums, rows_from_terms
from gradkernels.engines.hooks.accumulate.inner_products import UseTerm
from gradkernels.engines.hooks.parameter_use import ParameterUse
from gradkernels.engines.hooks.precision import in_units, sum_dtype, widen


class SeveralRowSums:
    """Adds up the rows of every parameter by each of several weightings.

    Args:
        theta: Parameters by name.
        weights: `(n, k)`.
    """

    def __init__(self, theta: dict[str, Array], weights: Array) -> None:
        self._weights, self._units = in_units(weights, theta.values())
        self._sums = [RowSums(theta) for _ in range(weights.shape[1])]

    def __call__(self, use: ParameterUse, g: Array) -> None:
        """Add the sums of the rows of a use's targets, which are formed at most once."""
        assert self._weights is not None
        for place, target in use.targets.items():
            totals = use.weighted_totals(place, g, self._weights)
            for sums, total in zip(self._sums, totals.unbind(), strict=True):
                sums.add_total(target, total)

    def finish(self) -> dict[str, Array]:
        """Return the sums `(k, *parameter.shape)` by name, once the backward pass is over."""
        each = [sums.finish() for sums in self._sums]
        found = {name: torch.stack([totals[name] for totals in each]) for name in each[0]}
        if self._units is None:
            return found
        return {name: one * self._units.view(-1, *[1] * (one.ndim - 1)) for name, one in found.items()}


class GroupSums:
    """Adds up the rows of every parameter by groups of samples; no row is of more than one parameter.

    Args:
        theta: Parameters by name.
        groups: Number of each sample's group, `(n,)`.
        out: Sums so far, `(count, *parameter.shape)` by name, in the dtype that sums are taken in; added to.
    """

    def __init__(self, theta: dict[str, Array], groups: Array, out: dict[str, Array]) -> None:
        self._theta, self._groups, self._out = theta, groups, out
        self._derived: list[UseTerm] = []

    def __call__(self, use: ParameterUse, g: Array) -> None:
        """Add the rows of a use's targets."""
        for place, target in use.targets.items():
            if target.direct:
                use.add_by_group(place, g, self._groups, self._out[target.names[0]])
            elif target.block is not None:
                flat = self._out[target.names[0]].flatten(1)[:, target.block.start : target.block.stop]
                use.add_by_group(place, g, self._groups, flat.view(len(flat), *target.tensor.shape))
            else:
                self._derived.append((use, place, g))

    def finish(self) -> dict[str, Array]:
        """Return the sums by name, once the backward pass is over."""
        names = {name for use, place, _ in self._derived for name in use.targets[place].names}
        for name, rows in rows_from_terms(self._derived, self._theta, names, len(self._groups)).items():
            self._out[name].index_add_(0, self._groups, widen(rows))
        return self._out


def zero_sums(theta: dict[str, Array], count: int) -> dict[str, Array]:
    """Return zeros, `(count, *parameter.shape)` by name, in the dtype that sums are taken in."""
    with torch.inference_mode(False), torch.no_grad():
        return {name: one.new_zeros((count, *one.shape), dtype=sum_dtype(one.dtype)) for name, one in theta.items()}
