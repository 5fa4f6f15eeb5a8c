"""Random projections of rows, added up use by use: of linear maps by small factors, of the rest by rows."""

from __future__ import annotations

from gradkernels.backend import Array
from gradkernels.engines.hooks.accumulate.accumulators import rows_from_terms
from gradkernels.engines.hooks.accumulate.inner_products import UseTerm
from gradkernels.engines.hooks.parameter_use import ParameterUse
from gradkernels.engines.hooks.precision import widen
from gradkernels.engines.hooks.rules.linear.linear import Linear
from gradkernels.quantities.project import as_like, projected
from gradkernels.quantities.shared.projections import factors


class RowProjections:
    """Adds up the projections of the rows, `(n, size)`; several uses of a parameter add up as they are.

    Args:
        theta: Parameters by name.
        n: Number of samples.
        how: Dimensions, seed and kind of the projection.
    """

    def __init__(self, theta: dict[str, Array], n: int, how: tuple[int, int, str]) -> None:
        self._theta, self._n, self._how = theta, n, how
        self._total: Array | None = None
        self._derived: list[UseTerm] = []

    def __call__(self, use: ParameterUse, g: Array) -> None:
        """Add the projections of the rows of a use's targets."""
        for place, target in use.targets.items():
            if not target.direct:
                self._derived.append((use, place, g))
            elif self._how[2] == "factored" and place == "weight" and isinstance(use, Linear):
                self._add(self._factored(use, g))
            else:
                # All rows at once: to make the matrix takes longer than to multiply by it.
                name, shape = target.names[0], tuple(target.tensor.shape)
                rows = target.tensor.detach().new_empty((len(g), *shape))
                use.write(place, g, rows, slice(0, len(g)), add=False)
                self._add(projected(widen(rows).reshape(len(rows), -1), name, shape, *self._how))

    def _factored(self, use: Linear, g: Array) -> Array:
        """Return (P b)(Q a)^T of each sample, summed over steps."""
        target, (size, seed, _) = use.targets["weight"], self._how
        rows, columns = (widen(factor if factor.ndim == 3 else factor[:, None]) for factor in use.factors(g))
        outputs, inputs = factors(seed, target.names[0], tuple(target.tensor.shape), size)
        return ((rows @ as_like(outputs, rows).T).mT @ (columns @ as_like(inputs, rows).T)).flatten(1)

    def finish(self) -> Array:
        """Return the projections `(n, size)`, once the backward pass is over."""
        names = {name for use, place, _ in self._derived for name in use.targets[place].names}
        for name, rows in rows_from_terms(self._derived, self._theta, names, self._n).items():
            self._add(projected(widen(rows).reshape(len(rows), -1), name, tuple(rows.shape[1:]), *self._how))
        if self._total is not None:
            return self._total
        return next(iter(self._theta.values())).new_zeros((self._n, self._how[0])).detach()

    def _add(self, projections: Array) -> None:
        self._total = projections if self._total is None else self._total + projections
