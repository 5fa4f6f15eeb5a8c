"""The rule for kernels of convolutions: a matrix product with the patches of the data that the kernel meets."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp

from gradkernels.backend import Array
from gradkernels.engines.taps.matrix_factors import MatrixFactors

MOST_KERNEL_PLACES = 128
"""Of a kernel: patches are taken by one slice for each."""


@dataclass(frozen=True)
class PatchProduct(MatrixFactors):
    """A `conv_general_dilated` of data with a kernel, without groups.

    Attributes:
        params: Of the equation.
        shape: Of the kernel.
        out: Of the output.
    """

    params: Any
    shape: tuple[int, ...]
    out: tuple[int, ...]

    def factors(self, inputs: Any, gradient: Array) -> tuple[Array, Array]:
        """Return patches `(T, i)` and output gradients `(T, o)` of one sample; i counts channels, then places."""
        how = self.params["dimension_numbers"]
        data = self._padded(inputs[0].transpose(how.lhs_spec))
        sizes = [self.out[axis] for axis in how.out_spec[2:]]
        slices = [self._slice(data, place, sizes) for place in product(*map(range, self._places))]
        patches = jnp.moveaxis(jnp.stack(slices, 2), (1, 2), (-2, -1))
        b = jnp.moveaxis(gradient.transpose(how.out_spec), 1, -1)
        return patches.reshape(-1, patches.shape[-2] * patches.shape[-1]), b.reshape(-1, b.shape[-1])

    def flat(self, value: Array) -> Array:
        """Return what has the kernel's shape as `(i, o)`."""
        return value.transpose(self._order).reshape(-1, self.shape[self._order[-1]])

    @property
    def first_is_output(self) -> bool:
        """Return whether the kernel has output channels, input channels and places in this order."""
        return tuple(self.params["dimension_numbers"].rhs_spec) == tuple(range(len(self.shape)))

    @property
    def _order(self) -> tuple[int, ...]:
        outputs, inputs, *places = self.params["dimension_numbers"].rhs_spec
        return inputs, *places, outputs

    @property
    def _places(self) -> list[int]:
        return [self.shape[axis] for axis in self.params["dimension_numbers"].rhs_spec[2:]]

    def _padded(self, data: Array) -> Array:
        """Pad and dilate the data `(N, C, ...)`."""
        around = zip(self.params["padding"], self.params["lhs_dilation"], strict=True)
        config = [(0, 0, 0), (0, 0, 0), *((low, high, by - 1) for (low, high), by in around)]
        return jax.lax.pad(data, jnp.zeros((), data.dtype), config)

    def _slice(self, data: Array, place: tuple[int, ...], sizes: list[int]) -> Array:
        """Return what one place of the kernel meets, `(N, C, ...)` with the output's sizes.

        Args:
            data: Padded.
            place: In the kernel.
            sizes: Of the output.
        """
        steps = self.params["window_strides"]
        starts = [at * by for at, by in zip(place, self.params["rhs_dilation"], strict=True)]
        stops = [start + (size - 1) * by + 1 for start, size, by in zip(starts, sizes, steps, strict=True)]
        return jax.lax.slice(data, (0, 0, *starts), (*data.shape[:2], *stops), (1, 1, *steps))


def convolution_of(equation: Any, avals: list[Any]) -> PatchProduct | None:
    """Return the rule for the kernel of a convolution; None where there is none.

    Args:
        equation: JAX's.
        avals: Of its inputs.
    """
    params, out = equation.params, equation.outvars[0].aval
    grouped = params["feature_group_count"] != 1 or params["batch_group_count"] != 1
    found = PatchProduct(params, tuple(avals[1].shape), tuple(out.shape))
    places = [avals[1].shape[axis] for axis in params["dimension_numbers"].rhs_spec[2:]]
    if grouped or avals[0].dtype != avals[1].dtype or math.prod(places) > MOST_KERNEL_PLACES or 0 in out.shape:
        return None
    return found
