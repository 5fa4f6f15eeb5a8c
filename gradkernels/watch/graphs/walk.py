"""Autograd's graph of a pass, and what is compared of it with that of another one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from gradkernels.backend import Array


class AutogradGraph(NamedTuple):
    """The nodes of a graph, and what is compared of them.

    Attributes:
        nodes: From the outputs on.
        kinds: Their types.
        edges: Which node, and which of its outputs, each one's inputs are; -1 where they need no gradient.
        leaves: Identities of the parameters where the graph ends.
    """

    nodes: list[Any]
    kinds: list[type]
    edges: list[int]
    leaves: list[int]


def graph_of(outputs: Sequence[Array]) -> AutogradGraph:
    """Return the graph that outputs come from."""
    nodes, places, edges, ends = list[Any](), dict[Any, int](), list[int](), list[Any]()
    for output in outputs:
        node = output.grad_fn
        if node is not None and node not in places:
            places[node] = len(nodes)
            nodes.append(node)
        edges += (-1 if node is None else places[node], output.output_nr)
    for node in nodes:  # which grows
        if not (inputs := node.next_functions):
            ends.append(node)
        for following, number in inputs:
            if following is None:
                edges.append(-1)
                continue
            at = places.get(following)
            if at is None:
                at = places[following] = len(nodes)
                nodes.append(following)
            edges += (at, number)
    leaves = [id(node.variable) for node in ends if hasattr(node, "variable")]
    return AutogradGraph(nodes, [type(node) for node in nodes], edges, leaves)
