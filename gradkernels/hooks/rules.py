"""Which function has which rule: the one list."""

from __future__ import annotations

from torch.nn import functional

from gradkernels.hooks import anything, normalization
from gradkernels.hooks.activation import PRELU
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
    functional.layer_norm: ruled(normalization.LAYER_NORM),
    functional.rms_norm: ruled(normalization.RMS_NORM),
    functional.group_norm: ruled(normalization.GROUP_NORM),
    functional.instance_norm: ruled(normalization.INSTANCE_NORM),
    functional.batch_norm: ruled(normalization.BATCH_NORM),
    functional.prelu: ruled(PRELU),
}
"""How the boundaries of known functions are run."""


def start_of(function: Function) -> Start:
    """How a boundary of this function is run."""
    return RULES.get(function, anything.start)
