"""The proof of each step that is looked at: the samples' gradients add up to what autograd gives the parameters.

All parameters at steps 1, 2, 4, 8, ... of those, and some that are drawn at each of the others.

Sums are not formed for that: both sides are multiplied by an outer product of random vectors, drawn once for each
parameter, which costs a product with a vector. Where something is missing or counted twice (a penalty on a weight, a
parameter that is used outside of the model, a rule of ours that is wrong) the two numbers differ.
"""

from __future__ import annotations

import math
import random
from collections.abc import Container, Mapping, Sequence
from typing import Any

import torch

from gradkernels.backend import Array
from gradkernels.engines.hooks.parameter_use import ParameterTensor, ParameterUse
from gradkernels.engines.hooks.precision import sum_dtype, widen
from gradkernels.watch.errors import CannotWatch

SKETCH_TOLERANCES = {torch.float64: 1e-6, torch.float32: 1e-3, torch.float16: 2e-2, torch.bfloat16: 1e-1}
"""Of the sum of the terms' sizes; by the coarsest dtype that gradients arrive in."""

TIMES_EPS = 16
"""Times the rounding error of g: what is left of a gradient that is zero, since its terms cancel in each sample.

Biases of keys in an attention, or before a softmax over tokens, have such gradients.
"""

SKETCH_SEED = 20221

KEPT_BYTES = 1 << 18
"""Of a gradient and terms whose sizes are asked for only where their sums differ; of larger ones they are taken."""

SHARE_PER_PASS = 16
"""Of so many parameters one is compared in passes between."""

Directions = dict[tuple[str, tuple[int, ...], torch.dtype, torch.device], tuple[Array, Array]]


def compared(names: Sequence[str], passes: int, draw: random.Random) -> Container[str]:
    """Return the parameters that are compared in a backward pass: all in passes 1, 2, 4, 8, ..., else some of them.

    Args:
        names: Of all parameters.
        passes: Number of the pass, from 1.
        draw: Draws a sixteenth of them.
    """
    if not passes & (passes - 1):
        return names
    return frozenset(draw.sample(names, -(-len(names) // SHARE_PER_PASS)))


def directions_of(name: str, tensor: Array, known: Directions) -> tuple[Array, Array]:
    """Return two random vectors for a parameter, as long as its first axis and as one entry of that.

    Args:
        name: Of the parameter.
        tensor: It.
        known: Those drawn so far, added to.
    """
    key = name, tuple(tensor.shape), tensor.dtype, tensor.device
    if key not in known:
        generator = torch.Generator().manual_seed(SKETCH_SEED + len(known))
        first = tensor.shape[0] if tensor.ndim else 1
        sizes = first, tensor.numel() // max(1, first)
        vectors = [torch.randn(size, generator=generator, dtype=sum_dtype(tensor.dtype)) for size in sizes]
        known[key] = vectors[0].to(tensor.device), vectors[1].to(tensor.device)
    return known[key]


class _Terms:
    """Terms of a sum, as products of two factors.

    Args:
        factors: Whose product the terms are.
        g: What they were made of.
    """

    def __init__(self, factors: tuple[Array, Array], g: Array) -> None:
        one, other = factors
        alike = one.dtype is other.dtype and one.shape == other.shape
        self.sum = torch.dot(one.flatten(), other.flatten()) if alike else (one * other).sum()
        self._kept: tuple[Array, Array, Array] | None = one, other, g
        self._sizes: tuple[Array, Array] | None = None
        if max(one.nbytes, g.nbytes) > KEPT_BYTES:
            self._sizes, self._kept = self._taken(), None

    def _taken(self) -> tuple[Array, Array]:
        assert self._kept is not None
        one, other, g = self._kept
        return torch.linalg.vector_norm(one * other, 1), torch.linalg.vector_norm(g, dtype=one.dtype)

    @property
    def sizes(self) -> tuple[float, float]:
        """Sum of the terms' sizes, and the length of what they were made of."""
        terms, g = self._sizes or self._taken()
        return float(terms), float(g)


class Completeness:
    """Compares what arrives with what autograd gives, for one backward pass.

    Args:
        theta: Parameters by name.
        known: Random vectors, kept from step to step.
        names: Which of them are compared.
    """

    def __init__(self, theta: dict[str, Array], known: Directions, names: Container[str]) -> None:
        self._theta, self._known, self._names = theta, known, names
        self._sums, self._given = dict[str, list[_Terms]](), dict[str, list[Array]]()
        self._units = dict[str, float]()
        self._coarsest: dict[str, float] = {}

    def compares(self, name: str) -> bool:
        """Return whether a parameter is one of those that are compared."""
        return name in self._names

    def add(self, use: ParameterUse, g: Array, computed_in: torch.dtype) -> None:
        """Add what a use gives its parameters.

        Args:
            use: The use.
            g: Gradient of its output, samples first.
            computed_in: Dtype that the gradient has arrived in, which autocast may have chosen.
        """
        for place, target in use.targets.items():
            name = target.names[0]
            if name not in self._names:
                continue
            tolerance = SKETCH_TOLERANCES.get(computed_in, 1e-3)
            unit = TIMES_EPS * torch.finfo(computed_in).eps / tolerance
            self._units[name] = max(self._units.get(name, 0.0), unit)
            self._sums.setdefault(name, []).append(_Terms(self._factors(use, place, target, g), g))
            self._coarsest[name] = max(self._coarsest.get(name, 0.0), tolerance)

    def _factors(self, use: ParameterUse, place: Any, target: ParameterTensor, g: Array) -> tuple[Array, Array]:
        """Return factors whose inner product is that of the total with the target's part of the outer product.

        Args:
            use: The use.
            place: Key of the target.
            target: It.
            g: Gradient of the use's output, samples first.
        """
        name = target.names[0]
        left, right = directions_of(name, self._theta[name], self._known)
        block, width = target.block, len(right)
        if not target.direct:
            assert block is not None
            whole = target.tensor.ndim and not block.start % width and len(block) == len(target.tensor) * width
            if not whole:
                part = torch.outer(left, right).flatten()[block.start : block.stop]
                return widen(use.total(place, g)).flatten(), part
            left = left[block.start // width : block.stop // width]
        found = use.projected_factors(place, g, left[None], right[None])
        if found is None:
            return widen(use.total(place, g)).reshape(len(left), width), left[:, None] * right
        return found

    @property
    def tolerance(self) -> float:
        """The largest of those that parameters are compared with."""
        return max(self._coarsest.values(), default=SKETCH_TOLERANCES[torch.float32])

    def give(self, name: str, total: Array) -> None:
        """Take what autograd gives a parameter."""
        if name not in self._names:
            return
        left, right = directions_of(name, self._theta[name], self._known)
        matrix = widen(total).reshape(len(left), len(right))
        self._given.setdefault(name, []).append(left @ (matrix @ right))
        self._coarsest[name] = max(self._coarsest.get(name, 0.0), SKETCH_TOLERANCES.get(total.dtype, 1e-3))

    def require(self) -> None:
        """Raise a CannotWatch where the two differ for a parameter.

        Gradients that are not finite are nobody's fault but the loss's; they are left as they are.
        """
        sums = _added({name: [one.sum for one in some] for name, some in self._sums.items()})
        given = _added(self._given)
        for name in (one for one in self._theta if one in sums or one in given):
            seen, total, tolerance = sums.get(name, 0.0), given.get(name, 0.0), self._coarsest[name]
            if name in given and abs(seen - total) <= tolerance * abs(seen):  # no more than the terms' sizes
                continue
            terms, sizes = self._sizes(name)
            if name not in given and terms + sizes:
                raise CannotWatch(UNGIVEN.format(name=name))
            allowed = tolerance * (terms + self._units.get(name, 0.0) * sizes)
            if math.isfinite(seen) and math.isfinite(total) and abs(seen - total) > allowed:
                raise CannotWatch(INCOMPLETE.format(name=name, seen=seen, total=total))

    def _sizes(self, name: str) -> tuple[float, float]:
        """Return the sum of the sizes of a parameter's terms, and that of the lengths of what they were made of."""
        sizes = [one.sizes for one in self._sums.get(name, ())]
        return math.fsum(terms for terms, _ in sizes), math.fsum(g for _, g in sizes)


UNGIVEN = (
    "backward() gave no gradient to {name}, which the loss depends on: call loss.backward() without inputs=, not "
    "torch.autograd.grad"
)
INCOMPLETE = (
    "the samples' gradients of {name} do not add up to what backward() gives it ({seen:.4g} instead of {total:.4g} "
    "along a random direction): the loss takes the parameter besides the model's output, as a penalty on weights does, "
    "or the model is used outside of the calls that are watched; add such terms to .grad yourself, after backward()"
)


def _added(side: Mapping[str, Sequence[Array]]) -> dict[str, float]:
    """Return sums of numbers by name, waited for all at once."""
    numbers = [one for some in side.values() for one in some]
    if len({one.dtype for one in numbers}) > 1:
        numbers = [one.double() for one in numbers]
    left, found = torch.stack(numbers).tolist() if numbers else [], dict[str, float]()
    for name, some in side.items():
        mine, left = left[: len(some)], left[len(some) :]
        found[name] = math.fsum(mine) if all(map(math.isfinite, mine)) else math.nan
    return found
