"""A use of a made weight that becomes uses of the parameters behind it when the gradient of its output comes."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from gradkernels.backend import Array
from gradkernels.engines.hooks.parameter_use import ALL_SAMPLES, ParameterTensor, ParameterUse
from gradkernels.engines.hooks.precision import in_parameters_dtype
from gradkernels.engines.hooks.rules.linear.linear import Linear
from gradkernels.engines.hooks.rules.linear.outer_products import sums_over_steps
from gradkernels.engines.hooks.rules.made.samples import OuterRows, joined
from gradkernels.engines.hooks.rules.made.way_back import ArrivedRows, WayBack, way_back_to
from gradkernels.engines.hooks.rules.materialized import FormedRows, MaterializedUse

DTYPES = (torch.float32, torch.float64)
"""In half precision factors would have fewer digits than rows."""


class PulledUse(ParameterUse):
    """A use of a made tensor, which stands for uses of the parameters behind it.

    Args:
        use: Of the tensor.
        place: Key of the tensor.
        way: The way from it to the parameters.
        parameters: Behind it, by name.

    Attributes:
        use: Of the tensor.
    """

    def __init__(self, use: ParameterUse, place: Any, way: WayBack, parameters: Mapping[str, ParameterTensor]) -> None:
        self.use, self._place, self._way, self._parameters = use, place, way, parameters
        others = {key: target for key, target in use.targets.items() if key != place}
        self.targets = others | {(place, name): target for name, target in parameters.items()}

    def parts(self, g: Array) -> Sequence[tuple[ParameterUse, Array]]:
        """Return the uses of each of the parameters, and what is left of the use, with gradients of their outputs."""
        return [*self._parts(g)]

    def _parts(self, g: Array) -> Iterator[tuple[ParameterUse, Array]]:
        for use, of in self.use.parts(g):
            if self._place not in use.targets:
                yield use, of
                continue
            use, of = in_parameters_dtype(use, of)
            if len(use.targets) > 1:
                yield _without(use, self._place), of
            for name, arrived in self._way.run(_arriving(use, self._place, of)).items():
                yield _use_of(self._parameters[name], arrived)

    def write(self, target: Any, g: Array, out: Array, at: slice, add: bool) -> None:
        """Write rows as the uses that this one stands for do.

        Args:
            target: Key of the target.
            g: Gradient of the output, `(n, ...)`.
            out: Memory for the rows of samples `at`.
            at: Which samples.
            add: Whether to add to what is there.
        """
        name = self.targets[target].names[0]
        for use, of in self.parts(g):
            for place, one in use.targets.items():
                if one.names[0] == name:
                    use.write(place, of, out, at, add)


def pulled_back(parameters: Mapping[str, ParameterTensor], use: ParameterUse, place: Any) -> ParameterUse:
    """Return a use of a made tensor as one of the parameters behind it; the use itself where there is no way to them.

    Args:
        parameters: Behind the tensor, by name.
        use: Of the tensor.
        place: Key of the tensor.
    """
    tensor, kind = use.targets[place].tensor, use
    while isinstance(kind, PulledUse):  # of another of its tensors
        kind = kind.use
    dtypes = {tensor.dtype, *(one.tensor.dtype for one in parameters.values())}
    known = isinstance(kind, Linear | MaterializedUse)
    if not known or len(dtypes) > 1 or tensor.dtype not in DTYPES or tensor.grad_fn is None:
        return use
    outer = place == "weight" and tensor.ndim == 2 and isinstance(kind, Linear)
    way = way_back_to(tensor, {id(one.tensor): name for name, one in parameters.items()}, outer)
    return use if way is None else PulledUse(use, place, way, {name: parameters[name] for name in way.ends})


def _arriving(use: ParameterUse, place: Any, g: Array) -> ArrivedRows:
    """Return the rows of a made tensor, those of a linear map's weight as outer products."""
    if not isinstance(use, Linear):
        assert isinstance(use, MaterializedUse)
        return use.rows(place, g, ALL_SAMPLES)
    if place == "bias":
        return sums_over_steps(g)
    rows, columns = use.factors(g)
    return OuterRows(rows[:, None], columns[:, None]) if rows.ndim == 2 else OuterRows(rows, columns)


def _use_of(target: ParameterTensor, arrived: Sequence[ArrivedRows]) -> tuple[ParameterUse, Array]:
    """Return a use of a parameter, and the gradient of its output, of which what arrives is the rows."""
    outer = [one for one in arrived if isinstance(one, OuterRows)]
    if len(outer) == len(arrived):
        rows, columns = joined(outer)
        single = rows.shape[1] == 1
        return Linear({"weight": target}, columns[:, 0] if single else columns), rows[:, 0] if single else rows
    rows = sum(one.formed() if isinstance(one, OuterRows) else one for one in arrived)
    return FormedRows(target), rows.reshape(len(rows), *target.tensor.shape)


def _without(use: ParameterUse, place: Any) -> ParameterUse:
    """Return a use of all targets but one."""
    made = copy.copy(use)
    made.targets = {key: target for key, target in use.targets.items() if key != place}
    return made
