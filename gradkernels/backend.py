"""Array libraries: how to get arrays in and out, wait for them and compile functions of them."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import numpy as np

from gradkernels.memory import from_numpy
from gradkernels.names import counted
from gradkernels.tree import Tree, each

Array = Any
"""A numpy array, a torch tensor or a JAX array: no static type exists that all three satisfy."""

FLOATS = ("float64", "float32")


def _itself(value: Any) -> Any:
    return value


@dataclass(frozen=True, eq=False)
class ArrayLibrary:
    """What differs between libraries with arrays of their own; what is left out is as numpy has it.

    Attributes:
        name: Import name.
        array_type: Name of the class of its arrays in that module.
        namespace: Name of the module with its functions of arrays, where it is another.
        put: `put(array, device)`, a numpy array as one of its own; None where it is one.
        get: `get(array)`, one of its arrays as numpy, writable; None where it is numpy's.
        cast: `cast(array, dtype)`, the array in another dtype.
        device_of: `device_of(array)`, the name of the device that it is on.
        layout: `layout(array)`, its memory order as kernels are told apart by it: `C`, or `F` for columns together.
        wait: `wait(result)`, the result once it is computed: an array, or a tree of arrays.
        eager_on: Kinds of device on which a result is computed when the call returns.
        compile: `compile(function)`, as the library's users would compile it.
        refuses: `refuses(dtype, device)`, reasons why it cannot compute so in this process.
        fresh_arrays: A context in which arrays can be written to and differentiated by, whatever mode the caller is in.
        in_own_dtype: `in_own_dtype(function, device)`, the same in the arrays' dtype whatever mode the caller is in.
        read_only: Why its arrays cannot be written to; empty where they can.
    """

    name: str
    array_type: str
    namespace: str = ""
    put: Callable[[Any, str], Any] | None = None
    get: Callable[[Any], Any] | None = None
    cast: Callable[[Any, str], Any] = lambda array, dtype: array.astype(dtype)
    device_of: Callable[[Any], str] = lambda array: "cpu"
    layout: Callable[[Any], str] = lambda array: "C"
    wait: Callable[[Any], Any] = _itself
    eager_on: tuple[str, ...] = ("cpu",)
    compile: Callable[[Callable[..., Any]], Callable[..., Any]] = _itself
    refuses: Callable[[str, str], list[str]] = lambda dtype, device: []
    fresh_arrays: Callable[[], AbstractContextManager[None]] = nullcontext
    in_own_dtype: Callable[[Callable[..., Any], str], Callable[..., Any]] = lambda function, device: function
    read_only: str = ""


@dataclass(frozen=True)
class Backend:
    """One library that computes. Making one imports nothing; the library loads at the first use of `xp`.

    Attributes:
        name: Import name of the library, the first part of a kernel's key.
        preference: Rank among libraries when times tie: fewer dependencies first.
        arrays: The library whose arrays it takes and gives.
        devices: Kinds of device it computes on.
    """

    name: str
    preference: int
    arrays: ArrayLibrary
    devices: tuple[str, ...] = ("cpu",)

    @property
    def host(self) -> Backend:
        """The array library: itself, or the one whose arrays it takes."""
        return BACKENDS[self.arrays.name]

    @property
    def installed(self) -> bool:
        """Whether the library can be imported here (looked up, not imported)."""
        return _found(self.name)

    @property
    def xp(self) -> ModuleType:
        """The array namespace: `numpy`, `torch` or `jax.numpy`."""
        return importlib.import_module(self.arrays.namespace or self.arrays.name)

    def refuses(self, dtype: str, device: str) -> list[str]:
        """Return the reasons why this library cannot compute in `dtype` on `device` in this process."""
        if not self.installed:
            return [f"{self.name} is not installed: pip install {PACKAGES.get(self.name, self.name)}"]
        if device.partition(":")[0] not in self.devices:
            return [f"{self.name} computes on {' or '.join(self.devices)} here, not on {device}"]
        return self.arrays.refuses(dtype, device)

    def __reduce__(self) -> tuple[Any, ...]:
        """Reduce copies and pickles to the one Backend of that name: `is` tells libraries apart."""
        return _named, (self.name,)

    def load(self) -> None:
        """Import the library, if it is installed."""
        if self.installed:
            importlib.import_module(self.name)
            _ = self.xp

    def put(self, arrays: Tree, device: str = "cpu") -> Tree:
        """Convert a numpy array, or a tree of them, to arrays of this library; CPU torch tensors share the memory."""
        put = self.arrays.put
        return arrays if put is None else each(lambda array: put(array, device), arrays)

    def get(self, arrays: Tree) -> Tree:
        """Convert an array of this library, or a tree, to numpy, writable; CPU torch tensors share the memory."""
        return arrays if self.arrays.get is None else each(self.arrays.get, arrays)

    def eager(self, device: str) -> bool:
        """Return whether a result on `device` is computed when the call returns."""
        return device.partition(":")[0] in self.arrays.eager_on

    def wait(self, result: Any) -> Any:
        """Block until `result` (an array, or a dict or tuple of arrays) is computed; return it."""
        return self.arrays.wait(result)

    def compile(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Compile `function` where that is the library's normal use (`jax.jit`); otherwise return it."""
        return self.arrays.compile(function)


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
    torch, kind = importlib.import_module("torch"), device.partition(":")[0]
    enabled = torch.is_autocast_enabled

    def call(*arrays: Any, **options: Any) -> Any:
        if not enabled(kind):
            return function(*arrays, **options)
        with torch.autocast(kind, enabled=False):
            return function(*arrays, **options)

    return call


def _jax_refuses(dtype: str, device: str) -> list[str]:
    if dtype != "float64" or _jax_has_x64():
        return []
    return [
        "JAX computes float64 as float32 until x64 is on: call "
        "jax.config.update('jax_enable_x64', True) or set JAX_ENABLE_X64=1 at your entry point"
    ]


def _jax_has_x64() -> bool:
    if "jax" in sys.modules:
        return bool(sys.modules["jax"].config.jax_enable_x64)
    return os.environ.get("JAX_ENABLE_X64", "").lower() in ("1", "true", "yes", "on")


NUMPY = ArrayLibrary("numpy", "ndarray", layout=lambda array: "F" if array.flags.fnc else "C")
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
)
JAX = ArrayLibrary(
    "jax",
    "Array",
    namespace="jax.numpy",
    put=lambda array, device: importlib.import_module("jax.numpy").asarray(array),
    get=np.array,
    wait=lambda result: sys.modules["jax"].block_until_ready(result),
    eager_on=(),
    compile=lambda function: importlib.import_module("jax").jit(function),
    refuses=_jax_refuses,
    read_only="JAX arrays cannot be written to",
)

BACKENDS = {
    backend.name: backend
    for backend in (
        Backend("numpy", 0, NUMPY),
        Backend("torch", 1, TORCH, ("cpu", "cuda")),
        Backend("numba", 2, NUMPY),
        Backend("jax", 3, JAX),
        Backend("sklearn", 4, NUMPY),
        Backend("statsmodels", 5, NUMPY),
        Backend("opacus", 6, TORCH, ("cpu", "cuda")),
        Backend("backpack", 7, TORCH, ("cpu", "cuda")),
    )
}
"""Every library that a kernel can be of, by name."""

LIBRARIES = {name: backend for name, backend in BACKENDS.items() if name == backend.arrays.name}
"""Those with arrays of their own."""

PACKAGES = {"sklearn": "scikit-learn", "backpack": "backpack-for-pytorch"}
"""What a library is called where it is installed from, if not by its import name."""

_OTHERS = tuple(backend for name, backend in LIBRARIES.items() if name != "numpy")


def _named(name: str) -> Backend:
    return BACKENDS[name]


def backend_of(array: Array) -> Backend | None:
    """Return the backend whose arrays `array` is one of, None for anything else; import nothing."""
    if isinstance(array, np.ndarray):
        # Others of its kinds are memory seen in another way; what is masked would come back to life.
        return None if isinstance(array, np.ma.MaskedArray) else BACKENDS["numpy"]
    for backend in _OTHERS:
        if isinstance(array, getattr(sys.modules.get(backend.name), backend.arrays.array_type, ())):
            return backend
    return None


@lru_cache(maxsize=32)
def _found(name: str) -> bool:
    return find_spec(name) is not None
