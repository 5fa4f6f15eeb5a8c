"""What arrived in one backward pass, and the norms, weighted sums and rows made of it when they are asked for."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import Any

import torch

from gradkernels.backend import Array
from gradkernels.engines.hooks.accumulate.accumulators import RowSums, SquaredNorms, rows_from_terms
from gradkernels.engines.hooks.accumulate.inner_products import UseTerm
from gradkernels.engines.hooks.precision import squared_row_norms, widen
from gradkernels.engines.hooks.quantities import beyond_range
from gradkernels.engines.hooks.rules.made.remade import RemadeUse
from gradkernels.engines.hooks.rules.vmap_call import VmapCall
from gradkernels.watch.sample_gradients import SampleGradients
from gradkernels.watch.values.measure import Term

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
        self._weights: tuple[Array, Any] | None = None  # and what tells them from others, while they are held
        self._sums = dict[str, Array]()

    @property
    def arrived(self) -> frozenset[str]:
        """Names of the parameters whose samples have gradients."""
        return frozenset(name for use, _ in self._all for target in use.targets.values() for name in target.names)

    def norms(self, name: str) -> Array:
        """Return the norms of a parameter's rows, `(n,)`."""
        return self._norms[name].to(self.theta[name].dtype)

    @cached_property
    def lengths(self) -> Array:
        """The norms of whole gradients, `(n,)`."""
        if any(len(names) for _, _, names in self._squares):
            return torch.stack([one.double() for one in self._norms.values()]).norm(dim=0)
        of_dtypes = [together.sum(0, dtype=torch.float64) for _, together, _ in self._squares]
        return torch.stack(of_dtypes).sum(0).sqrt() * self._factor

    @cached_property
    def _norms(self) -> dict[str, Array]:
        """Norms by name; those whose squares leave the range of their dtype from rows in float64."""
        found = dict[str, Array]()
        with torch.no_grad():
            for names, together, beyond in self._squares:
                found |= zip(names, (together.sqrt() * self._factor).unbind(), strict=True)
                for name in beyond:
                    found[name] = self.rows(name).reshape(self.n, -1).double().norm(dim=1)
        return found

    @cached_property
    def _squares(self) -> list[tuple[list[str], Array, list[str]]]:
        """For each dtype the names, their squared norms `(names, n)`, and the names of those that leave its range."""
        with torch.no_grad():
            squares, found = self._squared_norms(), list[Any]()
            for dtype in {one.dtype for one in squares.values()}:
                names = [name for name, one in squares.items() if one.dtype == dtype]
                together = torch.stack([squares[name] for name in names])
                out = beyond_range(together) & (together != 0)
                beyond = [name for name, one in zip(names, out.any(1).tolist(), strict=True) if one]
                found.append((names, together, beyond))
        return found

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
        which = weights.data_ptr(), weights.dtype, weights._version  # of a view those of what it shows
        if self._weights is None or self._weights[1] != which:
            self._weights, mine = (weights, which), dict.fromkeys((use, g) for use, _, g in self._terms[name])
            self._sums = self._weighted_sums([name], mine, weights)
        elif name not in self._sums:  # the same for all parameters, then
            self._sums |= self._weighted_sums([one for one in self.theta if one not in self._sums], self._all, weights)
        return self._sums.pop(name).to(self.theta[name].dtype)

    def weighted_sums(self, weights: Array) -> dict[str, Array]:
        """Return the sums of all rows by name, each row times its sample's weight `(n,)`."""
        sums = self._weighted_sums([*self.theta], self._all, weights)
        return {name: one.to(self.theta[name].dtype) for name, one in sums.items()}

    def _weighted_sums(self, names: list[str], uses: Iterable[Term], weights: Array) -> dict[str, Array]:
        """Return the sums of some parameters' rows by name.

        Args:
            names: Of the parameters.
            uses: All of theirs, with gradients.
            weights: Of the samples, `(n,)`.
        """
        wanted = {name: self.theta[name] for name in names}
        sums = RowSums(wanted, weights.to(next(iter(wanted.values())).device) * self._factor)
        with torch.no_grad():
            for use, g in uses:
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
