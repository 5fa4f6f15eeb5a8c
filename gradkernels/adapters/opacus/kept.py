"""What arrived in one backward pass, and the norms, weighted sums and rows made of it when they are asked for."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch

from gradkernels.backend import Array
from gradkernels.engines.hooks.accumulate.accumulators import RowSums, SquaredNorms, rows_from_terms
from gradkernels.engines.hooks.accumulate.inner_products import UseTerm
from gradkernels.engines.hooks.precision import squared_row_norms, widen
from gradkernels.engines.hooks.quantities import beyond_range
from gradkernels.engines.hooks.rules.remade import RemadeUse
from gradkernels.engines.hooks.rules.vmap_call import VmapCall
from gradkernels.watch.backward import SampleGradients

CHANGED = (
    "{name} has been changed since the backward pass, by optimizer.step() say, and its per-sample gradients were not "
    "formed before that: read p.grad_sample between backward() and step()"
)


class ArrivedGradients:
    """The gradients of one backward pass.

    Args:
        samples: That arrived, whose terms were kept.
        factor: What they are multiplied with to be the samples' own.

    Attributes:
        theta: Parameters by name.
        n: Number of samples.
    """

    def __init__(self, samples: SampleGradients, factor: float) -> None:
        self.theta, self.n, self._factor = samples.known.theta, samples.known.n, factor
        self._all = samples.terms
        self._terms: dict[str, list[UseTerm]] = {name: [] for name in self.theta}
        for use, g in self._all:
            for place, target in use.targets.items():
                self._terms[target.names[0]].append((use, place, g))
        self._versions = {name: one._version for name, one in self.theta.items()}
        self._small = dict[str, Array]()  # rows that take no more memory than what they are made of
        self._weights: tuple[Array, int] | None = None
        self._sums = dict[str, Array]()

    def norms(self, name: str) -> Array:
        """Return the norms of a parameter's rows, `(n,)`."""
        return self._norms[name].to(self.theta[name].dtype)

    @cached_property
    def lengths(self) -> Array:
        """The norms of whole gradients, `(n,)`."""
        return torch.stack([one.double() for one in self._norms.values()]).norm(dim=0)

    @cached_property
    def _norms(self) -> dict[str, Array]:
        """Norms by name; those whose squares leave the range of their dtype from rows in float64."""
        found = dict[str, Array]()
        with torch.no_grad():
            squares = self._squared_norms()
            for dtype in {one.dtype for one in squares.values()}:
                names = [name for name, one in squares.items() if one.dtype == dtype]
                together = torch.stack([squares[name] for name in names])
                found |= zip(names, (together.sqrt() * self._factor).unbind(), strict=True)
                if (out := beyond_range(together) & (together != 0)).any():
                    for name in [name for name, one in zip(names, out.any(1).tolist(), strict=True) if one]:
                        found[name] = self.rows(name).reshape(self.n, -1).double().norm(dim=1)
        return {name: found[name] for name in self.theta}

    def _squared_norms(self) -> dict[str, Array]:
        """Return the squared norms by name; small rows are kept for sums."""
        several = {name for name, terms in self._terms.items() if len(terms) > 1}
        found, of_several = dict[str, Array](), SquaredNorms(self.theta, several, self.n)
        for use, g in self._all:
            names = {place: target.names[0] for place, target in use.targets.items()}
            alone = [place for place, name in names.items() if name not in several]
            of_several.keep((use, place, g) for place in names if place not in alone)
            small = {names[place]: rows for place in alone if (rows := use.small_rows(place, g)) is not None}
            self._small |= small
            found |= {name: squared_row_norms(rows) for name, rows in small.items()}
            if large := [place for place in alone if names[place] not in small]:
                found |= {names[place]: one for place, one in use.each_squared_norms(large, g).items()}
        found |= of_several.of_shared()
        unused = {name: one for name, one in self.theta.items() if name not in found}
        return found | {name: widen(one.detach().new_zeros(self.n)) for name, one in unused.items()}

    def weighted_sum(self, name: str, weights: Array) -> Array:
        """Return the sum of a parameter's rows, each times its weight `(n,)`."""
        if self._weights is None or self._weights[0] is not weights or self._weights[1] != weights._version:
            self._weights, self._sums = (weights, weights._version), self._weighted_sums([name], weights)
        elif name not in self._sums:  # the same for all parameters, then
            self._sums |= self._weighted_sums([one for one in self.theta if one not in self._sums], weights)
        return self._sums.pop(name).to(self.theta[name].dtype)

    def _weighted_sums(self, names: list[str], weights: Array) -> dict[str, Array]:
        """Return the sums of some parameters' rows by name."""
        wanted = {name: self.theta[name] for name in names}
        sums = RowSums(wanted, weights.to(next(iter(wanted.values())).device) * self._factor)
        with torch.no_grad():
            for use, g in self._all:
                large = list[Any]()
                for place, target in use.targets.items():
                    if target.names[0] in self._small and target.names[0] in wanted:
                        sums.add_rows(target, self._small[target.names[0]])
                    elif target.names[0] in wanted:
                        self._require_unchanged(use)
                        large.append(place)
                if large:
                    sums.add(use, large, g)
            return sums.finish()

    def rows(self, name: str) -> Array:
        """Return a parameter's rows, `(n, *shape)`."""
        with torch.no_grad():
            if not self._terms[name]:
                parameter = self.theta[name]
                return parameter.detach().new_zeros((self.n, *parameter.shape))
            for use, _, _ in self._terms[name]:
                self._require_unchanged(use)
            return rows_from_terms(self._terms[name], self.theta, (name,), self.n)[name].mul_(self._factor)

    def _require_unchanged(self, use: Any) -> None:
        """Raise a RuntimeError where a use needs parameters as they were, and they are not."""
        if isinstance(use.rule, VmapCall | RemadeUse):
            for name, one in self.theta.items():
                if one._version != self._versions[name]:
                    raise RuntimeError(CHANGED.format(name=name))
