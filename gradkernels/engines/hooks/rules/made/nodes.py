"""Nodes of autograd's graph that outer products go through: what they give to each of the tensors behind them.

A node is what made a tensor of parameters. Of what arrives at the tensor, outer products or an array of each sample's
numbers `(n, *shape)`, its rule says how it goes on to what the tensor was made of.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, NamedTuple

import torch
from torch.autograd.graph import GradientEdge

from gradkernels.backend import Array
from gradkernels.engines.hooks.rules.made.samples import OuterRows, contracted, scaled, spread

NodeShape = tuple[int, ...]


class Pull(NamedTuple):
    """How what arrives at a tensor goes on to one that it was made of.

    Attributes:
        function: Takes outer products or an array, gives one of these.
        outer: Whether it gives outer products.
    """

    function: Callable[[Any], Any]
    outer: bool


Pulls = Sequence[Pull | None]
"""One for each tensor that a node was given; None where there is no rule."""

SAME = Pull(lambda arrived: arrived, True)


def shape_of(node: Any, number: int = 0) -> NodeShape:
    """Return the shape of a node's output."""
    return tuple(node._input_metadata[number].shape)


def shapes_behind(node: Any) -> list[NodeShape | None]:
    """Return the shapes of what a node was given; None where no gradient goes."""
    return [None if behind is None else shape_of(behind, number) for behind, number in node.next_functions]


def _only_axis(shape: NodeShape) -> tuple[bool, int | None]:
    """Return whether a shape broadcast to a matrix has one axis at most, and which that is."""
    o, i = (*[1] * (2 - len(shape)), *shape)
    return o == 1 or i == 1, (0 if o > 1 else 1 if i > 1 else None)


def _times(factor: Array | float, behind: NodeShape | None, shape: NodeShape) -> Pull | None:
    """Return how outer products go on through a product, entry by entry, with a factor.

    Args:
        factor: Broadcast to `shape`.
        behind: NodeShape of what is multiplied.
        shape: Of the product, a matrix.
    """
    if behind == shape:
        if isinstance(factor, int | float):
            number = float(factor)
            return SAME if number == 1 else Pull(lambda one: OuterRows(one.rows * number, one.columns), True)
        single, axis = _only_axis(tuple(factor.shape))
        return Pull(lambda one: scaled(one, factor, axis), True) if single else None
    if behind is None or not (known := _only_axis(behind))[0]:
        return None

    def reduced(one: OuterRows) -> Array:
        of = one.rows.new_full((), factor) if isinstance(factor, int | float) else factor
        return contracted(one, of, known[1]).reshape(len(one.rows), *behind)

    return Pull(reduced, False)


def _saved(node: Any, name: str) -> Any:
    """Return what a node has kept, without a graph; a number of Python's in the dtype that it was computed with in."""
    value = getattr(node, f"_saved_{name}")
    if value is None or value.requires_grad:
        return None if value is None else value.detach()
    if value.ndim:
        return value
    return torch.ones((), dtype=node._input_metadata[0].dtype, device=value.device) * value


def _sum(signs: tuple[float, float]) -> Callable[[Any, NodeShape], Pulls]:
    def rule(node: Any, shape: NodeShape) -> Pulls:
        alpha = node._saved_alpha
        factors = (1.0, 1.0 if alpha is None else float(alpha))
        pairs = zip(signs, factors, shapes_behind(node), strict=False)
        return [_times(sign * factor, behind, shape) for sign, factor, behind in pairs]

    return rule


def _product(node: Any, shape: NodeShape) -> Pulls:
    left, right = shapes_behind(node)
    of_left = None if left is None else _times(_saved(node, "other"), left, shape)
    return [of_left, None if right is None else _times(_saved(node, "self"), right, shape)]


def _quotient(node: Any, shape: NodeShape) -> Pulls:
    above, below = shapes_behind(node)
    dividend, divisor = _saved(node, "self"), _saved(node, "other")
    of_above = None if above is None else _times(divisor.reciprocal(), above, shape)
    return [of_above, None if below is None else _times(-dividend / divisor.square(), below, shape)]


def _matrix_product(node: Any, shape: NodeShape) -> Pulls:
    left, right = _saved(node, "self"), _saved(node, "mat2")
    of_left = None if right is None else Pull(lambda one: OuterRows(one.rows, one.columns @ right.mT), True)
    return [of_left, None if left is None else Pull(lambda one: OuterRows(one.rows @ left, one.columns), True)]


def _transposed(node: Any, shape: NodeShape) -> Pulls:
    return [Pull(lambda one: OuterRows(one.columns, one.rows), True)]


def _permuted(node: Any, shape: NodeShape) -> Pulls:
    return _transposed(node, shape) if node._saved_dims[0] % 2 else [SAME]


def _exchanged(node: Any, shape: NodeShape) -> Pulls:
    return _transposed(node, shape) if (node._saved_dim0 - node._saved_dim1) % 2 else [SAME]


def _same(node: Any, shape: NodeShape) -> Pulls:
    return [SAME if behind == shape else None for behind in shapes_behind(node)]


def _negated(node: Any, shape: NodeShape) -> Pulls:
    return [_times(-1.0, shape, shape)]


OUTER_RULES: dict[str, Callable[[Any, NodeShape], Pulls]] = {
    "AddBackward0": _sum((1.0, 1.0)),
    "SubBackward0": _sum((1.0, -1.0)),
    "RsubBackward1": lambda node, shape: [_times(-float(node._saved_alpha), shape, shape)],
    "NegBackward0": _negated,
    "MulBackward0": _product,
    "DivBackward0": _quotient,
    "MmBackward0": _matrix_product,
    "TBackward0": _transposed,
    "PermuteBackward0": _permuted,
    "TransposeBackward0": _exchanged,
    **dict.fromkeys(
        ("ViewBackward0", "ReshapeAliasBackward0", "UnsafeViewBackward0", "CloneBackward0", "AliasBackward0",
         "ExpandBackward0"), _same,
    ),
}  # fmt: skip
"""`rule(node, shape)` by the node's name: how outer products go on; `shape` is the node's, a matrix."""


def _matrix_times_vector(node: Any) -> Pulls:
    matrix, vector = _saved(node, "self"), _saved(node, "vec")
    of_matrix = None if vector is None else Pull(lambda g: OuterRows(g[:, None], vector.expand(len(g), 1, -1)), True)
    return [of_matrix, None if matrix is None else Pull(lambda g: g @ matrix, False)]


def _inner_product(of_first: str) -> Callable[[Any], Pulls]:
    def rule(node: Any) -> Pulls:
        return [None if one is None else _along(one) for one in (_saved(node, of_first), _saved(node, "self"))]

    return rule


def _along(vector: Array) -> Pull:
    return Pull(lambda g: g[:, None] * vector, False)


def _reduced(mean: bool, whole: bool) -> Callable[[Any], Pulls | None]:
    """Return the rule for sums or means of a matrix, of all of it or along axes."""

    def rule(node: Any) -> Pulls | None:
        (behind,) = shapes_behind(node)
        if behind is None or len(behind) != 2:
            return by_autograd(node)
        over = {0, 1} if whole or not node._saved_dim else {dim % 2 for dim in node._saved_dim}
        left = {0, 1} - over
        axis, share = left.pop() if left else None, 1 / prod(behind[dim] for dim in over) if mean else 1
        return [Pull(lambda g: spread(g if share == 1 else g * share, behind, axis), True)]

    return rule


ARRAY_RULES: dict[str, Callable[[Any], Pulls | None]] = {
    "MvBackward0": _matrix_times_vector,
    "DotBackward0": _inner_product("tensor"),
    "VdotBackward0": _inner_product("other"),
    "SumBackward0": _reduced(mean=False, whole=True),
    "SumBackward1": _reduced(mean=False, whole=False),
    "MeanBackward0": _reduced(mean=True, whole=True),
    "MeanBackward1": _reduced(mean=True, whole=False),
}
"""`rule(node)` by the node's name: how an array of each sample's numbers goes on; others go as autograd takes them."""


def _are_apart(ends: Sequence[Any]) -> bool:
    """Return whether no end is another or behind it: else autograd would count what comes there by the other too."""
    behind, waiting = set[Any](), [one for end in ends for one, _ in end.next_functions]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in behind:
            behind.add(node)
            waiting += [one for one, _ in node.next_functions]
    return len({*ends}) == len(ends) and behind.isdisjoint(ends)


def by_autograd(node: Any) -> Pulls | None:
    """Return how arrays go on through any node, all samples at once by vmap; None where its ends are not apart.

    A node that is called within a backward pass of another graph computes nothing: autograd has to call it.
    """
    start, ends = GradientEdge(node, 0), [end for end, _ in node.next_functions if end is not None]
    if len(ends) > 1 and not _are_apart(ends):
        return None

    def of(end: Any, number: int) -> Pull:
        edge = GradientEdge(end, number)

        def one(g: Array) -> Array:
            (found,) = torch.autograd.grad(start, edge, g, retain_graph=True, is_grads_batched=True)
            return found

        return Pull(one, False)

    return [None if end is None else of(end, number) for end, number in node.next_functions]
