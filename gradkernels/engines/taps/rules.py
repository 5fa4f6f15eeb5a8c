"""Rules for weights of matrix products, tables of look-ups and kernels of convolutions: a gradient as two factors.

A use has factors a and b with T rows each, so that the gradient of the value it uses is the sum over rows of the outer
products, `(i, o)`: of a matrix product the inputs and output gradients, of a look-up the indices and output gradients,
of a convolution the patches and output gradients.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jax.lax import GatherScatterMode

from gradkernels.backend import Array
from gradkernels.engines.taps.convolutions import PatchProduct, convolution_of
from gradkernels.engines.taps.matrix_factors import MatrixFactors

Factors = tuple[Array, Array]


@dataclass(frozen=True)
class MatrixProduct(MatrixFactors):
    """A `dot_general` without batch axes of data with a weight.

    Attributes:
        at: Position of the weight among the two.
        data_axes: Axes of the data that are contracted.
        weight_axes: Axes of the weight that are, in the same order.
        shape: Of the weight.
    """

    at: int
    data_axes: tuple[int, ...]
    weight_axes: tuple[int, ...]
    shape: tuple[int, ...]

    def factors(self, inputs: Any, gradient: Array) -> Factors:
        """Return a `(T, i)` and b `(T, o)` of one sample."""
        data = inputs[1 - self.at]
        free = [axis for axis in range(data.ndim) if axis not in self.data_axes]
        size = math.prod(data.shape[axis] for axis in self.data_axes)
        a = data.transpose(*free, *self.data_axes).reshape(-1, size)
        rows = len(a)
        return a, gradient.reshape(rows, -1) if self.at == 1 else gradient.reshape(-1, rows).T

    def flat(self, value: Array) -> Array:
        """Return what has the weight's shape as `(i, o)`."""
        return value.transpose(self._order).reshape(math.prod(value.shape[axis] for axis in self.weight_axes), -1)

    @property
    def _order(self) -> tuple[int, ...]:
        free = [axis for axis in range(len(self.shape)) if axis not in self.weight_axes]
        return (*self.weight_axes, *free)


@dataclass(frozen=True)
class LookUp:
    """A `gather` of whole entries along the first axis of a table.

    Attributes:
        shape: Of the table.
        clips: Whether an index beyond the table means its nearest entry, and not none.
    """

    shape: tuple[int, ...]
    clips: bool

    def factors(self, inputs: Any, gradient: Array) -> Factors:
        """Return indices `(T, 1)` and b `(T, o)` of one sample."""
        at, b = inputs[1].reshape(-1, 1), gradient.reshape(-1, math.prod(self.shape[1:]))
        if self.clips:
            return jnp.clip(at, 0, self.shape[0] - 1), b
        return at, jnp.where((at >= 0) & (at < self.shape[0]), b, 0)

    def products(self, a: Array, other: Array) -> Array:
        """Return `(..., T, S)`, whether two rows are of the same entry."""
        return (a == jnp.swapaxes(other, -1, -2)).astype(float)

    def joined(self, a: Array, b: Array) -> Array:
        """Return the gradient `(i, o)` of factors with rows `(..., T, .)` that are all added up."""
        blank = jnp.zeros((self.shape[0], b.shape[-1]), b.dtype)
        return blank.at[a.reshape(-1)].add(b.reshape(-1, b.shape[-1]), mode="drop")

    def applied(self, direction: Array, a: Array) -> Array:
        """Return `(..., T, o)`, the rows of a direction `(i, o)` that were looked up."""
        return direction.at[a[..., 0]].get(mode="fill", fill_value=0)

    def flat(self, value: Array) -> Array:
        """Return what has the table's shape as `(i, o)`."""
        return value.reshape(self.shape[0], -1)

    def restored(self, matrix: Array) -> Array:
        """Return `(i, o)` in the table's shape."""
        return matrix.reshape(self.shape)


TapRule = MatrixProduct | LookUp | PatchProduct


def rule_of(equation: Any, at: int) -> TapRule | None:
    """Return the rule for the weight of an equation; None where there is none.

    Args:
        equation: JAX's.
        at: Position of the weight among its inputs.
    """
    avals = [atom.aval for atom in equation.invars]
    if avals[at].dtype != equation.outvars[0].aval.dtype or any(0 in aval.shape for aval in avals):
        return None
    if equation.primitive.name == "dot_general":
        contracted, batch = equation.params["dimension_numbers"]
        if any(batch) or avals[1 - at].dtype != avals[at].dtype:
            return None
        of_data, of_weight = (tuple(map(int, contracted[place])) for place in (1 - at, at))
        return MatrixProduct(at, of_data, of_weight, tuple(avals[at].shape))
    if equation.primitive.name == "conv_general_dilated" and at == 1:
        return convolution_of(equation, avals)
    if equation.primitive.name == "gather" and at == 0:
        return _look_up(equation, avals)
    return None


def _look_up(equation: Any, avals: list[Any]) -> LookUp | None:
    table, indices = avals[0].shape, avals[1].shape
    how, out = equation.params["dimension_numbers"], equation.outvars[0].aval.shape
    kept = tuple(range(len(out) - len(table) + 1, len(out)))
    whole = tuple(equation.params["slice_sizes"]) == (1, *table[1:]) and tuple(how.offset_dims) == kept
    first = tuple(how.collapsed_slice_dims) == (0,) == tuple(how.start_index_map) and indices[-1:] == (1,)
    if not (whole and first) or how.operand_batching_dims:
        return None
    return LookUp(tuple(table), equation.params["mode"] == GatherScatterMode.CLIP)
