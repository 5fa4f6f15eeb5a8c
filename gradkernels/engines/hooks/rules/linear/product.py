"""Products of data with a parameter however they are written: `x @ W`, `addmm`, `bmm`, `einsum_product`.

Each is an einsum of the data and the parameter. With two axes, one summed over and one of the product, the parameter is
the weight of a linear map; with more (heads, experts) rows are an einsum of data and gradients.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from string import ascii_lowercase
from typing import Any

import torch

from gradkernels.backend import Array
from gradkernels.engines.hooks.arguments import ArgPath, argument_at
from gradkernels.engines.hooks.capture.boundary import BoundaryCall
from gradkernels.engines.hooks.capture.boundary_rules import RunBoundary
from gradkernels.engines.hooks.capture.sample_axis import Axis
from gradkernels.engines.hooks.capture.tape import Tape
from gradkernels.engines.hooks.parameter_use import ParameterUse
from gradkernels.engines.hooks.rules import vmap_call
from gradkernels.engines.hooks.rules.blocks import write_or_add
from gradkernels.engines.hooks.rules.linear.linear import Linear
from gradkernels.engines.hooks.rules.rule import Targets

INNER_LETTER, SAMPLE_LETTER = "Y", "Z"
"""Letters of the samples, and of an axis that was merged with them."""

Terms = tuple[str, str, str]
"""Letters of the axes of two factors and their product."""


@dataclass(frozen=True)
class EinsumEquation:
    """An einsum of data and a parameter: the letters of their axes and of the product's; samples first."""

    data: str
    weight: str
    output: str

    @property
    def known(self) -> bool:
        """Whether rows follow: each letter is once in a term and in two terms at least."""
        terms = self.data, self.weight, self.output
        letters = set("".join(terms))
        return all(sum(letter in term for term in terms) > 1 for letter in letters) and all(
            len(set(term)) == len(term) for term in terms
        )

    @property
    def linear(self) -> bool:
        """Whether the parameter is a matrix from the last axis of the data to the last one of the product."""
        return len(self.weight) == 2 and set(self.weight) == {self.data[-1], self.output[-1]} and self.plain

    @property
    def plain(self) -> bool:
        """Whether all other axes are in the same order."""
        return self.data[:-1] == self.output[:-1]


class EinsumProduct(ParameterUse):
    """A product with a parameter of any axes.

    Args:
        targets: It, as `weight`.
        a: Data, samples first.
        of: How they are multiplied.
    """

    def __init__(self, targets: Targets, a: Array, of: EinsumEquation) -> None:
        self.targets = targets
        self._a, self._of = a, of

    def write(self, target: Any, g: Array, out: Array, at: slice, add: bool) -> None:
        """Write the einsum of data and gradients that leaves samples and the parameter's axes.

        Args:
            target: Key of the target.
            g: Gradient of the output, `(n, ...)`.
            out: Memory for the rows of samples `at`.
            at: Which samples.
            add: Whether to add to what is there.
        """
        of = self._of
        rows = torch.einsum(f"{of.data},{of.output}->{SAMPLE_LETTER}{of.weight}", self._a[at], g[at])
        write_or_add(out, rows, add)

    def total(self, target: Any, g: Array) -> Array:
        """Return the einsum that leaves the parameter's axes."""
        return torch.einsum(f"{self._of.data},{self._of.output}->{self._of.weight}", self._a, g)


def product(added: bool = False) -> RunBoundary:
    """Return how calls of a product of the last two arguments are run; with `added`, a first one is added to it."""

    def start(tape: Tape, step: BoundaryCall, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        if kwargs or len(args) != 2 + added:
            return vmap_call.run_vmap_call(tape, step, args, kwargs)
        left, right = ("args", added), ("args", 1 + added)
        return _run(tape, step, args, (left, right), _letters(args[-2].ndim, args[-1].ndim))

    return start


def reversed_product(tape: Tape, step: BoundaryCall, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Run `b.__rmatmul__(a)`, which is a @ b.

    Args:
        tape: The pass.
        step: The call.
        args: Its arguments by position.
        kwargs: Its arguments by name.
    """
    return _run(tape, step, args, (("args", 1), ("args", 0)), _letters(args[1].ndim, args[0].ndim))


def einsum_product(tape: Tape, step: BoundaryCall, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Run calls of `einsum_product` of two operands, with their letters.

    Args:
        tape: The pass.
        step: The call.
        args: Its arguments by position.
        kwargs: Its arguments by name.
    """
    nested = len(args) == 2 and isinstance(args[1], list | tuple)
    if not isinstance(args[0], str) or "." in args[0] or len(args[1] if nested else args[1:]) != 2:
        return vmap_call.run_vmap_call(tape, step, args, kwargs)
    left, arrow, right = args[0].replace(" ", "").partition("->")
    if not arrow:
        right = "".join(sorted(letter for letter in set(left) - {","} if left.count(letter) == 1))
    first, second = [("args", 1, at) if nested else ("args", 1 + at) for at in range(2)]
    one, other = left.split(",")
    return _run(tape, step, args, (first, second), (one, other, right))


def _letters(left: int, right: int) -> Terms:
    """Return the letters of `matmul` for factors with so many axes."""
    before = ascii_lowercase[3 : 3 + max(left, right, 2) - 2]
    one = "k" if left == 1 else before[len(before) + 2 - left :] + "ik"
    other = "k" if right == 1 else before[len(before) + 2 - right :] + "ko"
    return one.replace("k", "b"), other.replace("k", "b"), before + "i" * (left > 1) + "o" * (right > 1)


def _run(tape: Tape, step: BoundaryCall, args: tuple[Any, ...], places: tuple[ArgPath, ArgPath], terms: Terms) -> Any:
    """Run the call; by a rule of this module where one factor is data and the other a parameter."""
    (data, made) = places if places[0] in step.data else places[::-1]
    letters = dict(zip(places, terms, strict=False))
    summand = step.parameters.keys() - {made}
    if step.data.keys() != {data} or made not in step.parameters or not summand <= {("args", 0)}:
        return vmap_call.run_vmap_call(tape, step, args, {})
    source, axis = argument_at(args, {}, data), step.data[data]
    output = step.function(*args)
    where = tape.output_axis(step, args, {}, output)
    of = EinsumEquation(_first(letters[data], axis), letters[made], _first(terms[2], where))
    targets = tape.targets(step, args, {})
    named = {"weight": targets[made]} | ({"bias": targets[("args", 0)]} if summand else {})
    use = _use(named, axis.first(source.detach(), tape.n), of, _sizes(args, places, terms))
    if use is None or axis.moved(where.dim) != where:
        return vmap_call.run_vmap_call(tape, step, args, {})
    tape.listen(use, output, where, [source])
    tape.tracker.mark_boundary(output, where)
    return output


def _first(letters: str, axis: Axis) -> str:
    """Put the samples' letter first, and the one of what was merged with them in their place."""
    rest = letters[: axis.dim] + (INNER_LETTER if axis.merged else "") + letters[axis.dim + 1 :]
    return SAMPLE_LETTER + rest


def _sizes(args: tuple[Any, ...], places: tuple[ArgPath, ArgPath], terms: Terms) -> bool:
    """Return whether a letter stands for one size in both factors: nothing is broadcast."""
    sizes: dict[str, int] = {}
    for place, term in zip(places, terms, strict=False):
        for letter, size in zip(term, argument_at(args, {}, place).shape, strict=True):
            if sizes.setdefault(letter, size) != size:
                return False
    return True


def _use(targets: Targets, a: Array, of: EinsumEquation, whole: bool) -> ParameterUse | None:
    """Return a linear map, a product of more axes, or None where there is no rule."""
    if not (of.known and whole):
        return None
    if of.linear and ("bias" not in targets or targets["bias"].tensor.ndim == 1):
        return Linear(targets, a, flipped=of.weight[0] == of.data[-1])
    return EinsumProduct(targets, a, of) if "bias" not in targets else None


PRODUCTS: dict[Any, RunBoundary] = {
    **dict.fromkeys(
        (torch.matmul, torch.Tensor.matmul, torch.mm, torch.Tensor.mm, torch.bmm, torch.Tensor.bmm, torch.mv,
         torch.Tensor.mv, torch.Tensor.__matmul__),
        product(),
    ),
    torch.Tensor.__rmatmul__: reversed_product,
    **dict.fromkeys((torch.addmm, torch.Tensor.addmm, torch.baddbmm, torch.Tensor.baddbmm), product(added=True)),
    torch.einsum: einsum_product,
}  # fmt: skip
"""How they are run."""
