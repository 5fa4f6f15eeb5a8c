"""A layer's parameters in the caller's graph, whose backward pass is to give them their gradients as torch's own does.

The run itself takes them without a graph. Its linear maps are told of by stand-ins: zeros that autograd takes for the
products with the parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from gradkernels.backend import Array
from gradkernels.engines.hooks.rules.recurrent.layer import RecurrentLayer


class CallersParameters:
    """The parameters of one layer in one direction, by the names of a cell's."""

    def __init__(self, parameters: Mapping[str, Array]) -> None:
        self._parameters = parameters

    def of_inputs(self, bias: Array | None) -> tuple[Array, Array | None]:
        """Return the weight and the bias of the projected inputs; `bias` may have that of the states added to it."""
        weight, own = self._parameters["w_ih"], self._parameters.get("b_ih")
        return weight, None if bias is None or own is None else BiasInPlaceOf.apply(bias, own)  # type: ignore[no-untyped-call]

    def products(self, run: RecurrentLayer, shape: Any) -> Array:
        """Return zeros in place of the products of the hidden weight with the states before each step."""
        return _zeros(lambda: run.before, shape, self._parameters["w_hh"], self._parameters.get("b_hh"))

    def added(self, run: RecurrentLayer) -> Array:
        """Return zeros in place of an LSTM's projections; without one nothing is differentiated by."""
        if "w_hr" not in self._parameters:
            return run.after.new_zeros(()).expand(run.after.shape)
        return _zeros(lambda: run.units, run.after.shape, self._parameters["w_hr"], None)


def _zeros(factor: Callable[[], Array], shape: Any, weight: Array, bias: Array | None) -> Array:
    found: Array = ProductInPlaceOf.apply(factor, shape, weight, bias)  # type: ignore[no-untyped-call]
    return found


class ProductInPlaceOf(torch.autograd.Function):
    """Zeros of a shape, with the gradients of a weight^T + bias."""

    @staticmethod
    def forward(ctx: Any, factor: Callable[[], Array], shape: Any, weight: Array, bias: Array | None) -> Array:
        """Return zeros without memory.

        Args:
            ctx: Autograd's context.
            factor: Gives what the weight is multiplied with, `(t, n, i)`, once the layer has run.
            shape: Of the product, `(t, n, o)`.
            weight: `(o, i)`.
            bias: `(o,)`, or None.
        """
        ctx.factor, ctx.has_bias = factor, bias is not None
        return weight.new_zeros(()).expand(shape)

    @staticmethod
    def backward(ctx: Any, *g: Array) -> tuple[Array | None, ...]:
        """Return the gradients of weight and bias."""
        (one,) = g
        rows, columns = one.flatten(0, -2), ctx.factor().flatten(0, -2)
        return None, None, rows.mT @ columns, rows.sum(0) if ctx.has_bias else None


class BiasInPlaceOf(torch.autograd.Function):
    """A bias, whose gradient is that of another parameter."""

    @staticmethod
    def forward(ctx: Any, bias: Array, parameter: Array) -> Array:
        """Return the bias.

        Args:
            ctx: Autograd's context.
            bias: That is added.
            parameter: Of its shape, which gets the gradient.
        """
        return bias.clone()

    @staticmethod
    def backward(ctx: Any, *g: Array) -> tuple[Array | None, ...]:
        """Return the gradient of the parameter."""
        return None, g[0]
