"""Tensors of torch, on the CPU or on a GPU."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from gradkernels.backend.array_library import Array, ArrayLibrary
from gradkernels.memory import from_numpy
from gradkernels.names import counted


def _torch_wait(result: Any) -> Any:
    if (torch := sys.modules["torch"]).cuda.is_initialized():
        torch.cuda.synchronize()
    return result


def _torch_refuses(dtype: str, device: str) -> list[str]:
    kind, _, number = device.partition(":")
    count = importlib.import_module("torch").cuda.device_count() if kind == "cuda" else 0
    known = kind != "cuda" or (number or "0") in map(str, range(count))
    return (
        [] if known else [f"torch sees {counted(count, 'CUDA device') if count else 'no CUDA device'} on this machine"]
    )


def _without_autocast(function: Callable[..., Any], device: str) -> Callable[..., Any]:
    torch, kinds = importlib.import_module("torch"), [device.partition(":")[0]] if device else ["cpu", "cuda"]
    enabled = torch.is_autocast_enabled

    def call(*arrays: Any, **options: Any) -> Any:
        with ExitStack() as contexts:
            for kind in filter(enabled, kinds):
                contexts.enter_context(torch.autocast(kind, enabled=False))
            return function(*arrays, **options)

    return call


def _all_between(tensor: Array, low: float, high: float) -> bool:
    smallest, largest = tensor.aminmax()
    return low < float(smallest) and float(largest) <= high


def _threads() -> int:
    return int(sys.modules["torch"].get_num_threads())


@contextmanager
def _limited(threads: int) -> Iterator[None]:
    torch = sys.modules["torch"]
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _sum_by(rows: Array, groups: Any, count: int) -> Array:
    numbers = sys.modules["torch"].as_tensor(groups, device=rows.device)
    return rows.new_zeros((count, *rows.shape[1:])).index_add_(0, numbers, rows)


TORCH = ArrayLibrary(
    "torch",
    "Tensor",
    put=from_numpy,
    get=lambda tensor: tensor.numpy(force=True),
    cast=lambda tensor, dtype: tensor.to(getattr(sys.modules["torch"], dtype)),
    device_of=lambda tensor: str(tensor.device),
    wait=_torch_wait,
    refuses=_torch_refuses,
    fresh_arrays=lambda: importlib.import_module("torch").inference_mode(False),
    in_own_dtype=_without_autocast,
    all_between=_all_between,
    threads=_threads,
    limited=_limited,
    sum_by=_sum_by,
)
