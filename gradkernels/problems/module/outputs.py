"""The outputs of a model as losses: of each sample one of them, or all of them, each times a weight.

A problem of outputs alone is what a Jacobian is of. Its targets say which outputs are meant: whole numbers `(n,)`, the
place of one among those of a sample, or weights `(n, ...)`, one for each.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from gradkernels.backend import Array
from gradkernels.problems.module.black_box import BlackBox
from gradkernels.problems.module.buffers import with_copied_buffers
from gradkernels.problems.module.input_writes import cloned
from gradkernels.problems.module.mode_key.identity import identity
from gradkernels.problems.module.random_state import preserved_rng
from gradkernels.problems.module.requirements import require_usable
from gradkernels.tree import Tree, count, leaves, structure, take

OutputPart = Callable[[Any], Array] | None
"""`part(output)`, the tensor that is meant in a model's output; None where that is a tensor itself."""

LEAST_WEIGHT, WEIGHT_STEP = 0.5, 0.6180339887498949
"""Weights are this and the fractions of multiples of the golden ratio: all different, since those of a sample would
hide that probabilities add up to one, and those of an output that the mean over a batch is in it."""

MOST_FORMS = 256
"""Kinds of inputs of which a problem keeps what their outputs are like."""


P = TypeVar("P", bound=BlackBox)


def problem_of_outputs(problem: P, part: OutputPart) -> P:
    """Return the problem of a model's outputs alone, the same one for the same part of them.

    Args:
        problem: Of the model.
        part: Of its output.
    """
    known: dict[Any, P] = problem.cache.setdefault("of outputs", {})
    if (key := identity(loss := partial(summed_outputs, part=part))) not in known:
        changes: dict[str, Any] = {"loss_fn": loss, "reduction": "sum"}
        made: Any = replace(problem, **changes, example=None)  # type: ignore[type-var]
        if problem.example is not None:
            x = problem.example[0]
            made = replace(made, example=(x, made.prepared(x, None)[1]))
        known.clear()
        known[key] = made
    return known[key]


def is_loss_of_outputs(loss_fn: Any) -> bool:
    """Tell whether a loss is of outputs that its targets choose."""
    return isinstance(loss_fn, partial) and loss_fn.func is summed_outputs


def summed_outputs(output: Any, y: Array, part: OutputPart = None) -> Array:
    """Sum the outputs that the targets of a batch say.

    Args:
        output: The model's.
        y: Numbers of outputs `(n,)`, or weights of all of them, of their shape.
        part: Of the model's output.

    Raises:
        ValueError: There are other outputs than the weights are of.
    """
    found = output_tensor(output, part)
    if not y.is_floating_point():
        n = len(found)
        return found.reshape(n, math.prod(found.shape[1:])).gather(1, y[:, None]).sum()
    require_outputs(found.shape[1:], y.shape[1:])
    return (found * y).sum()


def require_outputs(found: Sequence[int], wanted: Sequence[int]) -> None:
    """Raise a ValueError where a sample has other outputs than the first one had alone.

    Args:
        found: Their axes.
        wanted: Those of the first one's.
    """
    if tuple(found) != tuple(wanted):
        raise ValueError(
            f"the model gives outputs of shape {tuple(found)} for a sample of this batch and {tuple(wanted)} for the "
            "first one alone; a Jacobian is of outputs that are as many for each sample"
        )


def outputs_of(problem: BlackBox, output: Any) -> Array:
    """Return the outputs that a problem is of, `(n, ...)`.

    Args:
        problem: Of outputs alone.
        output: The model's.
    """
    part: OutputPart = problem.loss_fn.keywords["part"]  # type: ignore[attr-defined]
    return output_tensor(output, part)


def output_tensor(output: Any, part: OutputPart) -> Array:
    """Return the outputs that are meant, `(n, ...)`.

    Args:
        output: The model's.
        part: Of it.

    Raises:
        ValueError: They are no tensor of real numbers with the samples first.
    """
    import torch

    found = output if part is None else part(output)
    if not isinstance(found, torch.Tensor):
        has = [name for name in ("logits", "last_hidden_state") if hasattr(found, name)]
        example = f"output.{has[0]}" if has else "output[0]"
        raise ValueError(
            f"a Jacobian is of a tensor, and this is a {type(found).__name__}; say which tensor of the model's output "
            f"is meant: of=lambda output: {example}"
        )
    if not found.is_floating_point():
        raise ValueError(f"the outputs are {found.dtype}; a Jacobian is of real numbers: float64, float32 or half")
    if not found.ndim:
        raise ValueError("the output has no axis of samples; a Jacobian is of outputs with the samples first")
    return found


def output_weights(problem: BlackBox, x: Tree) -> Array:
    """Return a weight for each output of each sample, the targets by which all outputs are looked at.

    Args:
        problem: Of outputs alone.
        x: Inputs, prepared.
    """
    import torch

    known = problem.cache.setdefault("output forms", {})
    kinds = [(leaf.dtype, leaf.shape[1:], leaf.device) for leaf in leaves(x)]
    key = (problem.mode_key().watched, structure(x), *kinds)
    if key not in known:
        if len(known) >= MOST_FORMS:
            known.clear()
        known[key] = _form(problem, x)
    shape, dtype, device = known[key]
    numbers = torch.arange(count(x) * math.prod(shape), dtype=torch.float64, device=device)
    return (LEAST_WEIGHT + (numbers * WEIGHT_STEP).frac()).to(dtype).view(count(x), *shape)


def _form(problem: BlackBox, x: Tree) -> tuple[Any, ...]:
    """Run the model on one sample, or on none where there are none; return shape, dtype and device of its outputs."""
    import torch

    model, own = problem.model, problem.parameters()
    require_usable(model)
    with problem.lock(), torch.inference_mode(False), torch.no_grad(), preserved_rng(own), with_copied_buffers(model):
        found = outputs_of(problem, problem.output(cloned(take(x, slice(0, 1)))))
    if len(found) != min(1, count(x)):
        raise ValueError(
            f"the model gives {len(found)} rows of outputs for one sample; a Jacobian is of outputs with the samples "
            "first"
        )
    return tuple(found.shape[1:]), found.dtype, found.device
