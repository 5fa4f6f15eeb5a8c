"""Where a backward pass for samples alone may end: the gradients of parameters are left out of it."""

from __future__ import annotations

from typing import Any

from torch.autograd.graph import GradientEdge

from gradkernels.backend import Array
from gradkernels.watch.calls_seen import SeenCall


def ends_for_samples(loss: Array, call: SeenCall) -> list[GradientEdge]:
    """Return where a backward pass of a loss ends so that each use of a parameter hears its gradient.

    Args:
        loss: Of the call's output.
        call: That was followed.

    Returns:
        Nodes and the numbers of their outputs; none where the pass must go through the whole graph: one sample, parts
        that run again in it, or a loss with leaves other than these parameters, whose gradients somebody may want.
    """
    if call.n < 2 or call.repeats or not call.ends or loss.grad_fn is None:
        return []
    numbers, mine = {number for number, _ in call.ends}, {id(one) for one in call.theta.values()}
    found, seen, waiting = dict[int, Any](), set[Any](), [loss.grad_fn]
    while waiting:
        node = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        variable = getattr(node, "variable", None)
        if variable is not None and id(variable) not in mine:
            return []
        if node._sequence_nr() in numbers and variable is None:
            found[node._sequence_nr()] = node
        waiting += [one for one, _ in node.next_functions if one is not None]
    if len(found) < len(numbers):
        return []
    return [GradientEdge(found[number], output) for number, output in call.ends]
