"""What a recording can do without: operations whose result nobody reads, aliases, constants that are tensors."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx

from gradkernels.backend import Array

_ALIASES = (
    torch.ops.aten.detach.default,
    torch.ops.aten.alias.default,
    torch.ops.aten.lift_fresh.default,
    torch.ops.aten.lift.default,
)
"""Operations that give what they are given, where nothing is differentiated any more."""


def tidied(traced: fx.GraphModule) -> tuple[fx.Graph, list[Array]]:
    """Return the graph of a trace without what it can do without, and the tensors that it is given besides.

    Tensors that the model's Python finds somewhere become arguments behind the others: in place changes of their
    entries are seen, and no graph holds numbers.
    """
    graph, found = traced.graph, list[Array]()
    places: dict[str, fx.Node] = {}
    last = [node for node in graph.nodes if node.op == "placeholder"][-1]
    for node in list(graph.nodes):
        if node.op == "get_attr":
            if node.target not in places:
                with graph.inserting_after(last):
                    last = places[node.target] = graph.placeholder(node.target.replace(".", "_"))
                last.meta = dict(node.meta)
                found.append(_attribute(traced, node.target))
            node.replace_all_uses_with(places[node.target])
            graph.erase_node(node)
        elif node.op == "call_function" and node.target in _ALIASES:
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)
    graph.eliminate_dead_code(_is_needed)
    return graph, found


def _attribute(traced: fx.GraphModule, target: str) -> Array:
    tensor: Array = operator.attrgetter(target)(traced)
    return tensor.detach()


def _is_needed(node: fx.Node) -> bool:
    """Return whether a node does more than give a result: it writes, or draws numbers that others come after."""
    if node.op in ("placeholder", "output"):
        return True
    schema: Any = getattr(node.target, "_schema", None)
    tags: Any = getattr(node.target, "tags", ())
    return (schema is not None and schema.is_mutable) or torch.Tag.nondeterministic_seeded in tags
