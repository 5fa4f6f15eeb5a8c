"""Bilinear maps: linear maps of the products of each entry of one input with each of the other."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from gradkernels.backend import Array
from gradkernels.engines.hooks.parameter_use import ParameterUse
from gradkernels.engines.hooks.rules.linear.linear import Linear
from gradkernels.engines.hooks.rules.rule import LayerRule, NamedArguments, Targets, not_last


class Bilinear(ParameterUse):
    """bilinear of `(n, ..., i)` and `(n, ..., j)` by weights `(o, i, j)` and a bias `(o,)`."""

    def __init__(self, targets: Targets, a: Array, given: NamedArguments) -> None:
        self.targets = targets
        flat = {
            name: replace(target, tensor=target.tensor.detach().flatten(1)) if name == "weight" else target
            for name, target in targets.items()
        }
        products = a[..., :, None] * given["input2"][..., None, :]
        self._linear = Linear(flat, products.flatten(-2))

    def write(self, target: Any, g: Array, out: Array, at: slice, add: bool) -> None:
        """Write the linear map's rows.

        Args:
            target: Key of the target.
            g: Gradient of the output, `(n, ...)`.
            out: Memory for the rows of samples `at`.
            at: Which samples.
            add: Whether to add to what is there.
        """
        if target == "bias" or out.is_contiguous():
            flat = out if target == "bias" else out.flatten(2)
            self._linear.write(target, g, flat, at, add)
            return
        rows = out.new_empty(out.shape)
        self._linear.write(target, g, rows.flatten(2), at, add=False)
        out.copy_(out + rows if add else rows)

    def squared_norms(self, target: Any, g: Array) -> Array:
        """Return the squared norms of the linear map's rows."""
        return self._linear.squared_norms(target, g)

    def total(self, target: Any, g: Array) -> Array:
        """Return the sum of the linear map's rows."""
        return self._linear.total(target, g).view(self.targets[target].tensor.shape)

    def total_of_squares(self, target: Any, g: Array) -> Array:
        """Return the sum of the linear map's squared rows."""
        return self._linear.total_of_squares(target, g).view(self.targets[target].tensor.shape)


BILINEAR = LayerRule(("input1", "input2", "weight", "bias"), ("weight", "bias"), Bilinear, not_last, beside=("input2",))
