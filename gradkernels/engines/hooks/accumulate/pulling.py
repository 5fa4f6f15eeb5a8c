"""Rows of what was made of parameters, turned into rows of the parameters by autograd, a few samples at a time."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from gradkernels.backend import Array
from gradkernels.engines.hooks.accumulate.inner_products import UseTerm
from gradkernels.engines.hooks.accumulate.row_memory import RowMemory
from gradkernels.engines.hooks.rules.blocks import blocks, write_or_add

PULLED_BYTES = 1 << 21
"""Of rows at a time: what is between them and the parameters' then stays in a cache, and a call is worth its while."""


def pull(term: UseTerm, theta: Mapping[str, Array], rows: RowMemory) -> None:
    """Write or add the rows of all parameters that a use's target was made of.

    Args:
        term: The use, the target and the gradient of its output.
        theta: Parameters by name.
        rows: Where they belong.
    """
    use, place, g = term
    target = use.targets[place]
    memory = [rows.whole(name) if name in rows.out else None for name in target.names]
    for some in blocks(len(g), PULLED_BYTES // max(1, target.tensor.nbytes)):
        at = slice(some.start or 0, len(g) if some.stop is None else min(some.stop, len(g)))
        made = target.tensor.new_empty((at.stop - at.start, *target.tensor.shape))
        use.write(place, g, made, at, add=False)
        parts = torch.autograd.grad(
            target.tensor, [theta[name] for name in target.names], made,
            retain_graph=True, is_grads_batched=True, allow_unused=True, materialize_grads=True,
        )  # fmt: skip
        for known, part in zip(memory, parts, strict=True):
            if known is not None:
                write_or_add(known[0][at], part, known[1])
