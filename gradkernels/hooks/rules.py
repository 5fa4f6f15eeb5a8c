"""Which function has which rule: the one list."""

from __future__ import annotations

import torch
from torch.nn import functional

from gradkernels.hooks import anything
from gradkernels.hooks.calls import Function
from gradkernels.hooks.convolution import CONVOLUTION
from gradkernels.hooks.linear import LINEAR
from gradkernels.hooks.rule import ruled
from gradkernels.hooks.tape import Start

RULES: dict[Function, Start] = {
    functional.linear: ruled(LINEAR),
    functional.conv1d: ruled(CONVOLUTION),
    functional.conv2d: ruled(CONVOLUTION),
    functional.conv3d: ruled(CONVOLUTION),
}
"""How the boundaries of known functions are run."""


def start_of(function: Function) -> Start:
    """How a boundary of this function is run."""
    return RULES.get(function, anything.start)
