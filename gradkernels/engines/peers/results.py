"""The results that a library left on the parameters of a copy, by the names that the parameters have in theta."""

from __future__ import annotations

from gradkernels.backend import Array
from gradkernels.engines.peers.model_copy import ModelCopy
from gradkernels.problems.module.structure import Parameters


def collect_results(copied: ModelCopy, attribute: str, *first: int) -> dict[str, Array]:
    """Return what the library left on each parameter; zeros where the model left one out.

    Args:
        copied: The copy.
        attribute: Where the library leaves it.
        first: Axes of the zeros before the parameter's own.
    """
    found = {}
    for name, parameter in copied.parameters.items():
        left = getattr(parameter, attribute, None)
        found[name] = (parameter.new_zeros((*first, *parameter.shape)) if left is None else left).detach()
    return found


def collect_gradients(copied: ModelCopy) -> dict[str, Array]:
    """Return the gradient that a backward pass left on each parameter; zeros on those the model did not use."""
    import torch

    return {
        name: torch.zeros_like(parameter).detach() if parameter.grad is None else parameter.grad.detach()
        for name, parameter in copied.parameters.items()
    }


def zero_results(theta: Parameters, *first: int) -> dict[str, Array]:
    """Return zeros of each parameter's shape behind `first`."""
    return {name: tensor.new_zeros((*first, *tensor.shape)).detach() for name, tensor in theta.items()}
