"""Whether what layers have kept of a forward pass is still what it was when it is computed with."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from gradkernels.backend import Array
from gradkernels.watch.errors import CannotWatch

WRITTEN = (
    "what a layer has kept of the forward pass is written to before it is computed with, by a hook perhaps: do that "
    "after backward(), and after clip()"
)


class Unwritten:
    """Tensors, and the versions that they had."""

    def __init__(self) -> None:
        self._versions = list[tuple[Array, int]]()

    def add(self, values: Iterable[Any]) -> None:
        """Take the tensors among some values as they are now."""
        self._versions += [
            (one, one._version) for one in values if isinstance(one, torch.Tensor) and not one.is_inference()
        ]

    def require(self) -> None:
        """Raise a CannotWatch where one of them is not as it was."""
        if any(one._version != version for one, version in self._versions):
            raise CannotWatch(WRITTEN)
