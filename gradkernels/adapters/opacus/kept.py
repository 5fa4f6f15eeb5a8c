"""What arrived in one backward pass, and the norms, weighted sums and rows made of it when they are asked for."""

from __future__ import annotations

from functools import cached_property

import torch

from gradkernels.backend import Array
from gradkernels.engines.hooks.accumulate.accumulators import RowSums, rows_from_terms
from gradkernels.engines.hooks.accumulate.inner_products import UseTerm
from gradkernels.engines.hooks.accumulate.products import SquaredNormsByParameter
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
        self._all, self._shared = samples.terms, samples.known.shared | samples.shared
        self._terms: dict[str, list[UseTerm]] = {name: [] for name in self.theta}
        for use, g in self._all:
            for place, target in use.targets.items():
                self._terms[target.names[0]].append((use, place, g))
        self._versions = {name: one._version for name, one in self.theta.items()}

    @cached_property
    def _squares(self) -> dict[str, Array]:
        found = SquaredNormsByParameter(self.theta, self._shared, self.n)
        for use, g in self._all:
            found(use, g)
        return found.finish()

    @cached_property
    def _out_of_range(self) -> frozenset[str]:
        """Names of the parameters of which squares have left the range of their dtype; zeros are none."""
        names = [name for name, one in self._squares.items() if self._terms[name] and self.n]
        if not names:
            return frozenset()
        out = torch.stack([(beyond_range(self._squares[name]) & (self._squares[name] != 0)).any() for name in names])
        return frozenset(name for name, one in zip(names, out.tolist(), strict=True) if one)

    def norms(self, name: str) -> Array:
        """Return the norms of a parameter's rows, `(n,)`."""
        parameter = self.theta[name]
        with torch.no_grad():
            self._require_unchanged(name)
            if name in self._out_of_range:
                return self.rows(name).reshape(self.n, -1).double().norm(dim=1).to(parameter.dtype)
            return (self._squares[name].sqrt() * self._factor).to(parameter.dtype)

    def lengths(self) -> Array:
        """Return the norms of whole gradients, `(n,)`."""
        with torch.no_grad():
            return torch.stack([self.norms(name).double() for name in self.theta]).norm(dim=0)

    def weighted_sum(self, name: str, weights: Array) -> Array:
        """Return the sum of a parameter's rows, each times its weight `(n,)`."""
        parameter = self.theta[name]
        with torch.no_grad():
            self._require_unchanged(name)
            sums = RowSums({name: parameter}, weights.to(parameter.device) * self._factor)
            for use, place, g in self._terms[name]:
                sums.add(use, (place,), g)
            return sums.finish()[name].to(parameter.dtype)

    def rows(self, name: str) -> Array:
        """Return a parameter's rows, `(n, *shape)`."""
        with torch.no_grad():
            self._require_unchanged(name)
            if not self._terms[name]:
                parameter = self.theta[name]
                return parameter.detach().new_zeros((self.n, *parameter.shape))
            rows = rows_from_terms(self._terms[name], self.theta, (name,), self.n)[name]
            return rows.mul_(self._factor)

    def _require_unchanged(self, name: str) -> None:
        """Raise a RuntimeError where what is asked for needs parameters as they were, and they are not."""
        if any(isinstance(use.rule, VmapCall | RemadeUse) for use, _, _ in self._terms[name]):
            for other, one in self.theta.items():
                if one._version != self._versions[other]:
                    raise RuntimeError(CHANGED.format(name=other))
