"""What is known of a tensor during a pass, kept on the tensor itself: a copy or a view is another one, without it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from gradkernels.backend import Array
from gradkernels.engines.hooks.arguments import ArgPath
from gradkernels.engines.hooks.capture.boundary import ParameterNames
from gradkernels.engines.hooks.capture.sample_axis import Axis
from gradkernels.engines.hooks.errors import ONE_AT_A_TIME
from gradkernels.engines.hooks.parameter_use import ParameterUse

TAG_ATTRIBUTE = "_gradkernels_tag"
"""The attribute of a tensor that has its tag."""

UNSEEN = (
    "is computed from parameters where no call of a torch function shows it: by an autograd.Function, compiled code or "
    f"a change in place of another view; {ONE_AT_A_TIME}"
)
JOINT_DRAW = (
    "random numbers are drawn for all samples together, and randomness='different' needs some for each: draw them with "
    "the samples first, or pass kernel='torch.loop'"
)
NOT_FIRST = "the model's output does not have the samples first"


Recipe = Callable[[ParameterUse, Any], ParameterUse]
"""`recipe(use, place)`: the use of a made weight, which is its target at that place, as one of parameters."""


class TensorTag(NamedTuple):
    """The facts about a tensor.

    Attributes:
        run: The pass that knows it.
        axis: Where its samples are; None for what is made of parameters alone, and where they cannot be told apart.
        flows: Whether gradients of samples flow through it: it comes from a boundary.
        names: Parameters that it is made of, for what is made of parameters alone.
        words: Of which rows of the one parameter it is made, where it is such rows.
        copied: What each sample has a copy of, along the first axis.
        lost: Why samples cannot be told apart in data, as a sentence.
        drawn: Whether it is of random numbers that are drawn apart from data.
        recipe: What makes a use of it one of the parameters that it is made of, where that is known.
    """

    run: object
    axis: Axis | None = None
    flows: bool = False
    names: ParameterNames = ()
    words: Array | None = None
    copied: Array | None = None
    lost: str = ""
    drawn: bool = False
    recipe: Recipe | None = None


Made = tuple[Array, ParameterNames]
"""An argument made of parameters alone, and their names."""

Other = tuple[ArgPath, Array, TensorTag]
"""An argument in which samples are lost, or random numbers."""


def read_tag(tensor: Array, run: object) -> TensorTag | None:
    """Return what a pass knows of a tensor."""
    tag: Any = tensor.__dict__.get(TAG_ATTRIBUTE)
    return tag if tag is not None and tag.run is run else None


def write_tag(tensor: Array, tag: TensorTag | None) -> None:
    """Keep what is known of a tensor; None forgets it."""
    if tag is None:
        tensor.__dict__.pop(TAG_ATTRIBUTE, None)
    else:
        tensor.__dict__[TAG_ATTRIBUTE] = tag


def drawn_apart(drawn: Array, tag: TensorTag | None, output: Array) -> bool:
    """Return whether numbers that were drawn are other ones for each sample of an output.

    Args:
        drawn: The numbers.
        tag: What is known of the output.
        output: What they meet in.
    """
    if tag is None or tag.axis is None:
        return False
    dim = tag.axis.dim - (output.ndim - drawn.ndim)
    return 0 <= dim < drawn.ndim and drawn.shape[dim] == output.shape[tag.axis.dim]
