"""Transposed convolutions: convolutions with the roles of input and output exchanged.

y = convT(x) is the map whose transpose takes gradients of y to gradients of x by an ordinary convolution with the same
weights. So the rows of the weight are those of that convolution, with g as its input and x as its gradient.
"""

from __future__ import annotations

from typing import Any

from torch.nn import functional

from gradkernels.backend import Array
from gradkernels.engines.hooks.parameter_use import ALL_SAMPLES, ParameterUse
from gradkernels.engines.hooks.precision import squared_row_norms, sum_of_squares
from gradkernels.engines.hooks.rules.linear.convolution import Convolution
from gradkernels.engines.hooks.rules.linear.patches import per_axis
from gradkernels.engines.hooks.rules.rule import LayerRule, NamedArguments, Targets, samples_first


class TransposedConvolution(ParameterUse):
    """A transposed convolution of `(n, [steps,] channels, *places)` by weights `(channels, o / groups, *kernel)`."""

    def __init__(self, targets: Targets, a: Array, given: NamedArguments) -> None:
        self.targets = targets
        self._a, self._dims = a, given["weight"].ndim - 2
        before = per_axis(given.get("padding", 0), self._dims)
        more = per_axis(given.get("output_padding", 0), self._dims)
        ends = zip(reversed(before), reversed(more), strict=True)
        self._padding = [size for pad, extra in ends for size in (pad, pad - extra)]
        self._options = {"weight": given["weight"], "groups": given.get("groups", 1)}
        self._options |= {name: per_axis(given.get(name, 1), self._dims) for name in ("stride", "dilation")}

    def write(self, target: Any, g: Array, out: Array, at: slice, add: bool) -> None:
        """Write sums over places for the bias, the convolution's rows for the weight.

        Args:
            target: Key of the target.
            g: Gradient of the output, `(n, ...)`.
            out: Memory for the rows of samples `at`.
            at: Which samples.
            add: Whether to add to what is there.
        """
        if target == "weight":
            self._mirror(g[at]).write(target, self._a[at], out, ALL_SAMPLES, add)
        elif add:
            out += self._shifts(g[at])
        else:
            out.copy_(self._shifts(g[at]))

    def squared_norms(self, target: Any, g: Array) -> Array:
        """Return the squared norms of the convolution's rows."""
        return (
            self._mirror(g).squared_norms(target, self._a) if target == "weight" else squared_row_norms(self._shifts(g))
        )

    def projected_factors(self, target: Any, g: Array, outputs: Array, inputs: Array) -> tuple[Array, Array] | None:
        """Return those of the convolution.

        Args:
            target: Key of the target.
            g: Gradient of the output, `(n, ...)`.
            outputs: `(k, channels)`.
            inputs: `(l, o * kernel)`.
        """
        if target == "bias":
            return None
        return self._mirror(g).projected_factors(target, self._a, outputs, inputs)

    def small_rows(self, target: Any, g: Array) -> Array | None:
        """Return the convolution's rows where they are small, and sums over places."""
        return self._mirror(g).small_rows(target, self._a) if target == "weight" else self._shifts(g)

    def total(self, target: Any, g: Array) -> Array:
        """Return the sum of the convolution's rows."""
        return self._mirror(g).total(target, self._a) if target == "weight" else self._shifts(g).sum(0)

    def total_of_squares(self, target: Any, g: Array) -> Array:
        """Return the sum of the convolution's squared rows."""
        if target == "weight":
            return self._mirror(g).total_of_squares(target, self._a)
        return sum_of_squares(self._shifts(g))

    def _mirror(self, g: Array) -> Convolution:
        """Return the convolution of g that gives gradients of the input, without what nothing was written to."""
        return Convolution(self.targets, functional.pad(g, self._padding) if any(self._padding) else g, self._options)

    def _shifts(self, g: Array) -> Array:
        """Return the rows of the bias, `(n, o)`."""
        channel = g.ndim - self._dims - 1
        return g.sum([dim for dim in range(1, g.ndim) if dim != channel])


TRANSPOSED_ARGUMENTS = ("input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation")
TRANSPOSED = LayerRule(TRANSPOSED_ARGUMENTS, ("weight", "bias"), TransposedConvolution, samples_first)
