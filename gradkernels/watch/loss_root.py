"""What a loss is at its end, read off autograd's graph: a mean or a sum, and whether that is multiplied with a number.

Which number is not to be seen any more when the first gradient arrives. Where the end is of another kind, nothing is
said of it.
"""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

from gradkernels.watch.errors import CannotWatch

REDUCTION = {1: "mean", 2: "sum"}
"""As torch's losses keep it."""


class LossEnd(NamedTuple):
    """How a loss ends.

    Attributes:
        reduction: `mean` or `sum`, over all that it is of; empty where that cannot be told.
        multiplied: Whether the result is multiplied with a number, or divided by one.
    """

    reduction: str
    multiplied: bool


class Root(NamedTuple):
    """What a backward pass starts from.

    Attributes:
        node: Of autograd's graph; None where it cannot be seen or is not one.
        multiplied: Whether it is a number, and the pass starts with another number than 1: `backward(gradient=...)`.
    """

    node: Any = None
    multiplied: bool = False


def root_of_backward(thread: int) -> Root:
    """Return what the backward pass of a thread starts from.

    Args:
        thread: Its identity; hooks may run in another one.
    """
    frame = sys._current_frames().get(thread)
    while frame is not None:
        if frame.f_code.co_name == "_engine_run_backward":
            outputs, (first, *_) = frame.f_locals.get("t_outputs", ()), frame.f_locals.get("args") or ((),)
            if len(outputs) != 1 or not hasattr(outputs[0], "grad_fn"):
                return Root()
            called = frame.f_back.f_locals if frame.f_back is not None else {}
            given = outputs[0].numel() == 1 and called.get("grad_tensors", called.get("grad_outputs")) is not None
            return Root(outputs[0].grad_fn, given and any(one is not None and bool(one != 1) for one in first))
        frame = frame.f_back
    return Root()


def loss_end(root: Root) -> LossEnd | None:
    """Return how the loss that a backward pass started from ends; None where nothing of that can be told."""
    multiplied, node = root.multiplied, root.node
    while node is not None:
        kind = node.name()
        if (reduction := _reduction(node, kind)) is not None:
            return LossEnd(reduction, multiplied)
        following = [one for one, _ in node.next_functions if one is not None]
        if kind not in ("NegBackward0", "MulBackward0", "DivBackward0") or len(following) != 1:
            break
        multiplied, node = multiplied or kind != "NegBackward0", following[0]
    return LossEnd("", True) if root.multiplied else None


def _reduction(node: Any, kind: str) -> str | None:
    if kind in ("MeanBackward0", "SumBackward0"):
        return "mean" if kind == "MeanBackward0" else "sum"
    if kind in ("MeanBackward1", "SumBackward1"):
        one_axis = len(getattr(node, "_saved_self_sym_sizes", ())) == 1
        return ("mean" if kind == "MeanBackward1" else "sum") if one_axis else None
    return REDUCTION.get(getattr(node, "_saved_reduction", 0))


def require_reduction(end: LossEnd | None, reduction: str, scale: float | None) -> None:
    """Refuse a loss that ends otherwise than was said.

    Args:
        end: How it ends, where that is known.
        reduction: What was said.
        scale: What the loss is said to be multiplied with; None where nothing was said.

    Raises:
        CannotWatch: It is the mean and said to be the sum, or the other way round, or it is multiplied with a number of
            which nothing was said; but a sum that is divided may be a mean.
    """
    if end is None:
        return
    kind = f"the {end.reduction} of its terms, " * bool(end.reduction)
    if not end.multiplied and end.reduction != reduction:
        raise CannotWatch(f"the loss is the {end.reduction} of its terms, and reduction={reduction!r} says otherwise")
    if end.multiplied and scale is None and (end.reduction, reduction) != ("sum", "mean"):
        raise CannotWatch(
            f"the loss is {kind}multiplied with or divided by a number before backward() or by its gradient=: "
            "pass scale= that number if it is to be undone (1 / 4 for a loss that is divided by 4 since four backward "
            "passes make a step, or a GradScaler), scale=1 if it belongs to each sample's own loss"
        )
