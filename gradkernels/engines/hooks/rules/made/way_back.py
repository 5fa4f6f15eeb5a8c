"""The way back from a made tensor to the parameters that it was made of, through autograd's graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from gradkernels.backend import Array
from gradkernels.engines.hooks.rules.made.nodes import ARRAY_RULES, OUTER_RULES, Pull, Pulls, by_autograd, shape_of
from gradkernels.engines.hooks.rules.made.samples import OuterRows, joined

MOST_NODES = 32
"""Between a made tensor and its parameters."""

MOST_TERMS = 4
"""Ways by which outer products reach one tensor: each adds steps to all of them."""

Spot = tuple[Any, bool]
"""A node, and whether outer products arrive there, else an array."""

ArrivedRows = OuterRows | Array


@dataclass(frozen=True)
class Move:
    """One step of the way.

    Attributes:
        start: From where.
        end: To where.
        pull: How.
    """

    start: Spot
    end: Spot
    pull: Pull


@dataclass(frozen=True)
class WayBack:
    """The way from one made tensor back to its parameters.

    Attributes:
        root: Where it starts.
        moves: Its steps, in an order in which all that arrives somewhere has arrived before it goes on.
        ends: Where it ends, by the parameter's name.
    """

    root: Spot
    moves: tuple[Move, ...]
    ends: Mapping[str, tuple[Spot, ...]]

    def run(self, arrived: ArrivedRows) -> dict[str, list[ArrivedRows]]:
        """Return what arrives at each parameter, from what arrives at the made tensor."""
        waiting: dict[Spot, list[Any]] = {self.root: [arrived]}
        for move in self.moves:
            here = waiting[move.start]
            if len(here) > 1:
                here[:] = [joined(here) if move.start[1] else sum(here)]
            waiting.setdefault(move.end, []).append(move.pull.function(here[0]))
        return {name: [one for spot in spots for one in waiting[spot]] for name, spots in self.ends.items()}


def way_back_to(tensor: Array, names: Mapping[int, str], outer: bool) -> WayBack | None:
    """Return the way from a tensor to its parameters; None where a step has no rule.

    Args:
        tensor: Made of parameters.
        names: Of the parameters, by the id of the tensor.
        outer: Whether outer products arrive, else an array of as many numbers as the tensor has.
    """
    order = None if tensor.output_nr else _in_order(tensor.grad_fn)
    if order is None or any(node._input_metadata[0].dtype is not tensor.dtype for node in order):
        return None
    most = sum(tensor.shape) if outer else tensor.numel()
    terms: dict[Spot, int] = {(tensor.grad_fn, outer): 1}
    moves, ends = list[Move](), dict[str, tuple[Spot, ...]]()
    for node in order:
        for spot in [one for one in ((node, True), (node, False)) if one in terms]:
            if not node.next_functions:
                name = names.get(id(getattr(node, "variable", None)))
                ends |= {} if name is None else {name: (*ends.get(name, ()), spot)}
                continue
            more = _moves(spot, most)
            if more is None:
                return None
            moves += more
            for move in more:
                terms[move.end] = terms.get(move.end, 0) + (terms[spot] if move.end[1] and spot[1] else 1)
    if not ends or max(terms.values()) > MOST_TERMS:
        return None
    return WayBack((tensor.grad_fn, outer), tuple(moves), ends)


def _moves(spot: Spot, most: int) -> list[Move] | None:
    """Return the steps on from a node; None where there is no rule for one, or an array would be too large.

    Args:
        spot: The node, and what arrives there.
        most: Numbers of a sample that an array may have.
    """
    (node, outer), found = spot, list[Move]()
    pulls = _pulls(node, outer)
    for at, (behind, number) in enumerate(node.next_functions):
        if behind is None:
            continue
        pull = pulls[at] if pulls is not None and at < len(pulls) else None
        if pull is None or number or (not pull.outer and prod(shape_of(behind)) > most):
            return None
        found.append(Move(spot, (behind, pull.outer), pull))
    return found


def _pulls(node: Any, outer: bool) -> Pulls | None:
    name = node.name()
    if outer:
        return OUTER_RULES[name](node, shape_of(node)) if name in OUTER_RULES and len(shape_of(node)) == 2 else None
    if name in ARRAY_RULES:
        return ARRAY_RULES[name](node)
    return None if hasattr(node, "_forward_cls") else by_autograd(node)  # a caller's own may know no vmap


def _in_order(root: Any) -> list[Any] | None:
    """Return the nodes from a root on, each before all that are behind it; None where they are too many."""
    done, order, waiting = set[Any](), list[Any](), [(root, False)]
    while waiting:
        node, left = waiting.pop()
        if left:
            order.append(node)
        elif node not in done:
            done.add(node)
            if len(done) > MOST_NODES:
                return None
            waiting.append((node, True))
            waiting += [(behind, False) for behind, _ in node.next_functions if behind is not None]
    return order[::-1]
