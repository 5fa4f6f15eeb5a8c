"""Products of the rows of narrow matrices with each other, in the way that a machine's library is quick at."""

from __future__ import annotations

import threading
from collections.abc import Callable

import torch

from gradkernels.backend import Array
from gradkernels.engines.hooks.rules.autotune import fastest_of

QUICK_WIDTH = 256
"""From here on MKL multiplies rows by rows as fast as it can; narrower ones may take three times as long (2024.2)."""

PADDED_BYTES = 1 << 20
"""Of rows that are made wider, in memory that a thread keeps."""

MOST_KEPT_SHAPES = 8
"""Of which a thread keeps memory."""

OwnProduct = Callable[[Array, Array], None]
"""`product(factor, out)`: writes `factor @ factor.mT`, `(n, t, t)`, of a factor `(n, t, width)`."""

_ways: dict[tuple[int, ...], OwnProduct] = {}
_memory = threading.local()


def own_product(factor: Array, out: Array) -> OwnProduct:
    """Return what multiplies factors of a shape fastest: as they are, or with zeros beside them.

    Args:
        factor: One of them.
        out: Memory for its product.
    """
    n, steps, width = factor.shape
    many = n * steps * QUICK_WIDTH * factor.element_size() > PADDED_BYTES
    if many or width >= QUICK_WIDTH or factor.dtype is not torch.float32 or factor.device.type != "cpu":
        return _as_it_is
    key = n, steps, width, torch.get_num_threads()
    if key not in _ways:
        ways = {"as it is": _tried(_as_it_is), "with zeros": _tried(_with_zeros)}
        _ways[key] = fastest_of(("own product", *key), ways, (factor, out))
    return _ways[key]


def _tried(product: OwnProduct) -> Callable[[Array, Array], OwnProduct]:
    def run(factor: Array, out: Array) -> OwnProduct:
        product(factor, out)
        return product

    return run


def _as_it_is(factor: Array, out: Array) -> None:
    torch.bmm(factor, factor.mT, out=out)


def _with_zeros(factor: Array, out: Array) -> None:
    part, wide, turned = _widened(*factor.shape)
    part.copy_(factor)
    torch.bmm(wide, turned, out=out)


def _widened(n: int, steps: int, width: int) -> tuple[Array, Array, Array]:
    """Return the thread's memory for a factor, it with zeros beside it, and that transposed.

    Args:
        n: Number of samples.
        steps: Of each.
        width: Of the factor.
    """
    kept: dict[tuple[int, int, int], tuple[Array, Array, Array]] = vars(_memory).setdefault("kept", {})
    if (n, steps, width) not in kept:
        if len(kept) >= MOST_KEPT_SHAPES:
            kept.clear()
        with torch.inference_mode(False):
            wide = torch.zeros(n, steps, QUICK_WIDTH)
        kept[n, steps, width] = wide[:, :, :width], wide, wide.mT
    return kept[n, steps, width]
