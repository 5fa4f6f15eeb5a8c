"""Whether every way from the losses to a parameter leads through a boundary: what else there is would be left out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from gradkernels.backend import Array
from gradkernels.hooks.probe import Unfit
from gradkernels.problems.structure import Parameters

Node = Any
"""A node of autograd's graph."""


def require_complete(results: Iterable[Array], kept: Mapping[Node, list[Node]], theta: Parameters) -> None:
    """Raise an Unfit if a parameter is reached without a boundary.

    Args:
        results: What depends on the parameters: losses, or a model's outputs.
        kept: Each boundary's node, with the nodes that its data come from.
        theta: Parameters, leaves of the graph.
    """
    names = {id(tensor): name for name, tensor in theta.items()}
    waiting, seen = [one.grad_fn for one in results], set[Node]()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        name = names.get(id(getattr(node, "variable", None)))
        if name is not None:
            raise Unfit(
                f"{name}, or what is made of it, is used where no call of a torch function with the samples shows it: "
                "written into another tensor in place, or by loss_fn"
            )
        waiting += kept[node] if node in kept else [one for one, _ in node.next_functions]
