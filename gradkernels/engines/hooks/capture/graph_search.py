"""A search of autograd's graph for parameters and boundaries, whose gradients would be left out."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

from gradkernels.backend import Array

Node = Any
"""A node of autograd's graph."""


def leads_to(tensor: Array, leaves: Container[int], boundaries: Container[Node], past: bool = False) -> bool:
    """Return whether a gradient of the tensor would come to a parameter, or to the output of a boundary.

    Args:
        tensor: That requires a gradient.
        leaves: Identities of the parameters.
        boundaries: Their nodes.
        past: Whether only a parameter counts that a gradient comes to past all boundaries.
    """
    if id(tensor) in leaves:
        return True
    waiting, seen = [tensor.grad_fn], set[Node]()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if node in boundaries and past:
            continue
        if node in boundaries or id(getattr(node, "variable", None)) in leaves:
            return True
        waiting += [one for one, _ in node.next_functions]
    return False
