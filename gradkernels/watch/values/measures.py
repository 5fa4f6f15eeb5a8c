"""What may be watched, by name, and what has a value for each sample: norms, products, rows, projections."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from gradkernels.backend import Array
from gradkernels.engines.hooks.accumulate.accumulators import RowWriter
from gradkernels.engines.hooks.accumulate.products import RowGrams, RowsAlong, SquaredNormsByParameter
from gradkernels.engines.hooks.accumulate.projections import RowProjections
from gradkernels.engines.hooks.accumulate.random_matrices import RandomMatrices
from gradkernels.engines.hooks.quantities import beyond_range
from gradkernels.quantities.project import KIND, SEED, SIZE
from gradkernels.watch.errors import CannotWatch
from gradkernels.watch.values.measure import ROOM_OF_ROWS, Arrived, Arriving, Measure
from gradkernels.watch.values.sums import GradientMeasure, MomentsMeasure, NoiseScaleMeasure
from gradkernels.watch.values.weighted import GroupSumsMeasure, OuterMeasure, WeightedSumMeasure


class NormsMeasure(Measure):
    """The norms `(n,)`; with `by` a dict of them."""

    def __init__(self, known: Arriving, options: Mapping[str, Any]) -> None:
        _require_known(known, [name for _, names in options.get("by") or () for name in names])
        self.wants_squares = not options.get("by")
        each = None if self.wants_squares else SquaredNormsByParameter(known.theta, known.shared, known.n)
        super().__init__(known, options, each)

    def result(self, arrived: Arrived) -> Any:
        """Return roots of the sums."""
        widest = self.known.widest
        if (squares := arrived.squares) is not None and self.wants_squares:
            norms = squares.sqrt().double()
            for i in beyond_range(squares).nonzero().flatten().tolist():  # as squares, not as lengths
                norms[i] = norms[i] if (length := arrived.length(i)) is None else length
            return (norms * arrived.factor).to(widest)
        each = self.accumulator.finish()
        groups = {group: sum(each[name] for name in names) for group, names in self.options["by"]}
        return {group: (one.sqrt() * arrived.factor).to(widest) for group, one in groups.items()}


def _require_known(known: Arriving, names: Iterable[str]) -> None:
    if gone := [name for name in names if name not in known.theta]:
        raise CannotWatch(
            f"{', '.join(gone[:4])} was a trained parameter when gk.watch was called and is none now: make another "
            "watch once the model has changed"
        )


class GramMeasure(Measure):
    """The inner products of each two samples, `(n, n)`."""

    def __init__(self, known: Arriving, options: Mapping[str, Any]) -> None:
        super().__init__(known, options, RowGrams(known.theta, known.shared, known.n, room=options.get(ROOM_OF_ROWS)))

    def result(self, arrived: Arrived) -> Array:
        """Return their sums."""
        return (sum(self.accumulator.finish().values()) * arrived.factor**2).to(self.known.widest)


class RowsMeasure(Measure):
    """The rows, `(n, *shape)` by name."""

    def __init__(self, known: Arriving, options: Mapping[str, Any]) -> None:
        memory = {name: one.detach().new_empty((known.n, *one.shape)) for name, one in known.theta.items()}
        super().__init__(known, options, RowWriter(known.theta, memory, known.shared))

    def result(self, arrived: Arrived) -> dict[str, Array]:
        """Return all rows."""
        return {name: rows.mul_(arrived.factor) for name, rows in self.accumulator.finish().items()}


class AlongMeasure(Measure):
    """The inner products with directions `v`, `(n,)`, or `(n, k)` for several."""

    def __init__(self, known: Arriving, options: Mapping[str, Any]) -> None:
        _require_known(known, options["v"])
        first = next(iter(known.theta))
        self._several = options["v"][first].ndim > known.theta[first].ndim
        directions = {name: options["v"][name].detach() for name in known.theta}
        several = directions if self._several else {name: one[None] for name, one in directions.items()}
        super().__init__(known, options, RowsAlong(known.theta, several, known.n))

    def result(self, arrived: Arrived) -> Array:
        """Return their sums."""
        found = (self.accumulator.finish() * arrived.factor).to(self.known.widest)
        return found if self._several else found[:, 0]


class ProjectMeasure(Measure):
    """Random projections, `(n, size)`."""

    def __init__(self, known: Arriving, options: Mapping[str, Any]) -> None:
        how = options.get("size", SIZE), options.get("seed", SEED), options.get("kind", KIND)
        super().__init__(known, options, RowProjections(known.theta, known.n, how[0], RandomMatrices(known.theta, how)))

    def result(self, arrived: Arrived) -> Array:
        """Return their sums."""
        return (self.accumulator.finish() * arrived.factor).to(self.known.widest)


MEASURES: dict[str, type[Measure]] = {
    "norms": NormsMeasure,
    "gram": GramMeasure,
    "per_sample": RowsMeasure,
    "gradient": GradientMeasure,
    "moments": MomentsMeasure,
    "noise_scale": NoiseScaleMeasure,
    "inner": AlongMeasure,
    "project": ProjectMeasure,
    "weighted_sum": WeightedSumMeasure,
    "group_sums": GroupSumsMeasure,
    "outer": OuterMeasure,
}
"""What may be watched, by name."""

AVERAGES = ("gradient", "moments", "noise_scale")
"""What no samples have none of."""

OPTIONS: dict[str, tuple[str, ...]] = {
    "norms": ("by",),
    "inner": ("v",),
    "project": ("size", "seed", "kind"),
    "weighted_sum": ("weights",),
    "group_sums": ("groups", "count"),
    "outer": ("groups",),
}
"""Options of those that take some."""

NEEDED: dict[str, tuple[tuple[str, str], ...]] = {
    "inner": (("v", "its directions, of the parameters' structure"),),
    "weighted_sum": (("weights", "the weights of the batch's samples, or a function that gives them"),),
    "group_sums": (("groups", "the numbers of the samples' groups, or a function that gives them"),
                   ("count", "how many groups there are")),
}  # fmt: skip
"""Options without which there is no value, and what they are."""
