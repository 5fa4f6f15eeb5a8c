"""Where a backward pass for samples alone may end: the gradients of parameters are left out of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from torch.autograd.graph import GradientEdge

from gradkernels.backend import Array
from gradkernels.watch.calls_seen import SeenCall


class SamplesEnds(NamedTuple):
    """Where a backward pass of a loss ends so that each use of a parameter hears its gradient.

    Attributes:
        edges: Nodes and the numbers of their outputs; none where the pass must go through the whole graph.
        reached: Names of the parameters that the loss depends on.
    """

    edges: list[GradientEdge]
    reached: frozenset[str] = frozenset()


def ends_for_samples(loss: Array, call: SeenCall) -> SamplesEnds:
    """Return where a backward pass of a loss may end.

    Nowhere but at the parameters with one sample, parts that run again in the pass, or a loss with leaves other than
    these parameters, whose gradients somebody may want.

    Args:
        loss: Of the call's output.
        call: That was followed, or whose graph is known.
    """
    if call.n < 2 or call.repeats or not call.ends or loss.grad_fn is None:
        return SamplesEnds([])
    numbers, mine = {number for number, _ in call.ends}, {id(one): name for name, one in call.theta.items()}
    found, reached, seen, waiting = dict[int, Any](), set[str](), set[Any](), [loss.grad_fn]
    while waiting:
        node = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        variable = getattr(node, "variable", None)
        if variable is not None:
            if id(variable) not in mine:
                return SamplesEnds([])
            reached.add(mine[id(variable)])
        elif node._sequence_nr() in numbers:
            found[node._sequence_nr()] = node
        waiting += [one for one, _ in node.next_functions if one is not None]
    if len(found) < len(numbers):
        return SamplesEnds([])
    at_uses = [GradientEdge(found[number], output) for number, output in call.ends]
    return SamplesEnds(at_uses if call.is_followed else _beyond(found.values()), frozenset(reached))


def _beyond(nodes: Iterable[Any]) -> list[GradientEdge]:
    """Return the smallest parameter behind each node: a node at which a pass ends does not run, nor hear of anything.

    Args:
        nodes: With nothing but parameters behind them.
    """
    smallest = dict[int, GradientEdge]()
    for first in nodes:
        leaves, waiting = list[Any](), [first]
        while waiting:
            node = waiting.pop()
            leaves += [node] if hasattr(node, "variable") else []
            waiting += [one for one, _ in node.next_functions if one is not None]
        leaf = min(leaves, key=lambda one: one.variable.numel())
        smallest[id(leaf.variable)] = GradientEdge(leaf, 0)
    return [*smallest.values()]
