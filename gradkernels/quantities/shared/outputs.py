"""Single outputs of single samples, of which a Jacobian has a row each: as samples of a problem of outputs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from gradkernels.backend import backend_of
from gradkernels.memory import empty_torch, store
from gradkernels.quantity import Options, Quantity
from gradkernels.tree import Tree, each, leaves, take
from gradkernels.truth import Floats

OUTPUTS_AT_ONCE = 1024
"""Outputs of samples that go through the model as a batch, where each of them is a sample of its own."""


def output_axes(quantity: Quantity, y: Tree) -> Options:
    """Return what a result's shape takes from the targets, as an option of the quantity's functions; mostly nothing.

    Args:
        quantity: What is asked.
        y: Targets; of a quantity of outputs a weight for each output of each sample.

    Raises:
        ValueError: They are the numbers of single outputs.
    """
    if not quantity.of_outputs:
        return {}
    weights = leaves(y)[0]
    if "float" not in str(weights.dtype):
        raise ValueError(f"{quantity} is of all outputs of the samples; pass None for y, not numbers of outputs")
    return {"outputs": tuple(weights.shape[1:])}


def every_output(y: Tree) -> tuple[Floats, Floats]:
    """Return the numbers of the samples and of their outputs, all outputs of a sample one after the other.

    Args:
        y: A weight for each output of each sample.
    """
    n, *axes = leaves(y)[0].shape
    size = math.prod(axes)
    return np.repeat(np.arange(n), size), np.tile(np.arange(size), n)


def chosen_outputs(x: Tree, y: Tree, samples: Any, numbers: Any) -> tuple[Tree, Tree]:
    """Return inputs and targets of single outputs, each as a sample of its own.

    Args:
        x: Inputs of all samples.
        y: A weight for each output of each of them, numpy's or torch's.
        samples: Numbers of samples, `(m,)`.
        numbers: Of an output of each of these, `(m,)`.
    """
    samples, numbers = np.asarray(samples, np.int64), np.asarray(numbers, np.int64)
    if (library := backend_of(leaves(y)[0])) is not None and library.name != "numpy":
        device = str(leaves(y)[0].device)
        samples, numbers = library.put((samples.copy(), numbers.copy()), device)
    return take(x, samples), numbers


def rows_of_outputs(per_sample: Callable[..., Tree], theta: Tree, x: Tree, y: Tree) -> Tree:
    """Compute the gradients of all outputs of all samples, `(n c, *theta.shape)`, by what computes those of samples.

    Args:
        per_sample: `per_sample(theta, x, y)` of a problem of outputs, in torch's arrays.
        theta: Parameters.
        x: Inputs, samples first.
        y: A weight for each output of each sample.
    """
    samples, numbers = every_output(y)
    if len(samples) == len(leaves(x)[0]):  # one output of each
        return per_sample(theta, x, chosen_outputs((), y, samples, numbers)[1])
    if len(samples) <= OUTPUTS_AT_ONCE:
        return per_sample(theta, *chosen_outputs(x, y, samples, numbers))
    rows = each(lambda one: empty_torch((len(samples), *one.shape), one), theta)
    for start in range(0, len(samples), OUTPUTS_AT_ONCE):
        at = slice(start, start + OUTPUTS_AT_ONCE)
        found = per_sample(theta, *chosen_outputs(x, y, samples[at], numbers[at]))
        for into, some in zip(leaves(rows), leaves(found), strict=True):
            store(into, at, some)
    return rows
