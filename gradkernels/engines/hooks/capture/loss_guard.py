"""A watch over the loss: what it takes from the model besides the output would be left out, or count for all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from gradkernels.backend import Array
from gradkernels.engines.hooks.arguments import tensor_arguments
from gradkernels.engines.hooks.capture.tape import Tape
from gradkernels.engines.hooks.errors import Unfit

BESIDES = (
    "loss_fn takes a parameter, or what the model has kept of its forward pass, besides the output; have the model "
    "return it, or pass kernel='torch.loop'"
)


class LossGuard(TorchFunctionMode):
    """Raises an Unfit where the loss takes a tensor of the pass that it was not given.

    Args:
        tape: The pass.
        outputs: What the loss is given.
    """

    def __init__(self, tape: Tape, outputs: Sequence[Array]) -> None:
        super().__init__()
        self._tape = tape
        self._given = {id(output) for output in outputs}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the call as it is, unless it takes what it was not given."""
        for _, value in tensor_arguments(args, kwargs or {}):
            if self._tape.tracker.knows(value) and not self._allowed(value):
                raise Unfit(BESIDES)
        return func(*args, **(kwargs or {}))

    def _allowed(self, value: Array) -> bool:
        """Return whether it is the output, for all samples at once; inside vmap that is another tensor."""
        return id(value) in self._given and torch._C._functorch.peek_interpreter_stack() is None
