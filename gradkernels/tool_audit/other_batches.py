"""Data and settings made from the caller's batch: other lengths, ragged targets, other parameters, other dtypes."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from gradkernels.problems import BlackBox, Problem
from gradkernels.problems.module.sample_losses import IGNORE_INDEX
from gradkernels.tree import Tree, each, leaves

OTHER_SCALE = 1.0625
"""Factor of changed parameters: exact in every dtype."""


def shorter(x: Tree, y: Tree) -> tuple[Tree, Tree] | None:
    """Cut sequences, the second axis of the first input wherever it is, to half their length; return None without them.

    Args:
        x: Inputs, prepared.
        y: Targets, prepared.
    """
    first = leaves(x)[0]
    if first.ndim < 2 or first.shape[1] < 2:
        return None
    length = first.shape[1]

    def cut(array: Any) -> Any:
        return array[:, : length // 2] if array.ndim > 1 and array.shape[1] == length else array

    return each(cut, x), each(cut, y)


def ragged(y: Tree) -> Tree | None:
    """Leave out targets at the ends of sequences, more of each next sample; None where targets are no sequences."""
    parts = leaves(y)
    if len(parts) != 1 or parts[0].ndim < 2 or parts[0].shape[1] < 2 or parts[0].is_floating_point():
        return None

    def left_out(array: Any) -> Any:
        made, length = array.clone(), array.shape[1]
        for i in range(len(made)):
            made[i, length - i % length :] = IGNORE_INDEX
        return made

    return each(left_out, y)


def in_dtype(tree: Tree, dtype: str) -> Tree:
    """Return a tree of torch tensors or numpy arrays with its floats in another dtype."""

    def converted(array: Any) -> Any:
        if hasattr(array, "is_floating_point"):
            import torch

            return array.detach().to(getattr(torch, dtype)) if array.is_floating_point() else array
        return array.astype(dtype) if array.dtype.kind == "f" else array

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # JAX without float64 says that it keeps float32
        return each(converted, tree)


def other_parameters(theta: Tree) -> Tree:
    """Return parameters after a step: each by a little larger, those that are zero not zero any more."""
    return each(lambda array: array * OTHER_SCALE + (array == 0) * 0.015625, theta)


@contextmanager
def model_after_step(problem: BlackBox) -> Iterator[None]:
    """Have the model's own parameters changed in place, as an optimizer does it, and put back afterwards."""
    import torch

    own = problem.parameters()
    before = {name: one.detach().clone() for name, one in own.items()}
    changed = other_parameters(before)
    try:
        with torch.no_grad():
            for name, one in own.items():
                one.copy_(changed[name])
        yield
    finally:
        with torch.no_grad():
            for name, one in own.items():
                one.copy_(before[name])


@contextmanager
def model_in_dtype(problem: Problem, dtype: str) -> Iterator[None]:
    """Have the model and a loss that is a module converted in place, and put back afterwards.

    Args:
        problem: Of a module.
        dtype: Name of the dtype.
    """
    import torch

    parts = [getattr(problem, name) for name in ("model", "loss_fn")]
    modules = [part for part in parts if isinstance(part, torch.nn.Module)]
    every = [module for part in modules for module in part.modules()]
    parameters = [(one, one.data, one.grad) for part in modules for one in part.parameters()]
    buffers = [(module._buffers, name, one) for module in every for name, one in module._buffers.items()]
    try:
        for one, _, _ in parameters:
            one.grad = None
        for part in modules:
            part.to(getattr(torch, dtype))
        yield
    finally:
        for one, data, gradient in parameters:
            one.grad = None
            one.data = data
            one.grad = gradient
        for held, name, buffer in buffers:
            held[name] = buffer
