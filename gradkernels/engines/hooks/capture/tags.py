"""What is known of a tensor during a pass, kept on the tensor itself: a copy or a view is another one, without it."""

from __future__ import annotations

from typing import Any, NamedTuple

from gradkernels.backend import Array
from gradkernels.engines.hooks.capture.boundary import ParameterNames
from gradkernels.engines.hooks.capture.sample_axis import Axis

KEPT = "_gradkernels_tag"
"""The attribute of a tensor that has its tag."""


class TensorTag(NamedTuple):
    """What a tensor is.

    Attributes:
        run: The pass that knows it.
        axis: Where its samples are; None for what is made of parameters alone, and where they cannot be told apart.
        flows: Whether gradients of samples flow through it: it comes from a boundary.
        names: Parameters that it is made of, for what is made of parameters alone.
        words: Of which rows of the one parameter it is made, where it is such rows.
        copied: What each sample has a copy of, along the first axis.
        lost: Why samples cannot be told apart in data, as a sentence.
        drawn: Whether it is of random numbers that are drawn apart from data.
    """

    run: object
    axis: Axis | None = None
    flows: bool = False
    names: ParameterNames = ()
    words: Array | None = None
    copied: Array | None = None
    lost: str = ""
    drawn: bool = False


def read_tag(tensor: Array, run: object) -> TensorTag | None:
    """What a pass knows of a tensor."""
    tag: Any = tensor.__dict__.get(KEPT)
    return tag if tag is not None and tag.run is run else None


def write_tag(tensor: Array, tag: TensorTag | None) -> None:
    """Keep what is known; None forgets it."""
    if tag is None:
        tensor.__dict__.pop(KEPT, None)
    else:
        tensor.__dict__[KEPT] = tag
