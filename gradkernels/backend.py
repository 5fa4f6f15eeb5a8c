"""Array libraries: how to get arrays in and out, wait for them and compile functions of them.

Arrays are typed `Array = Any`: the same functions meet numpy, torch and JAX arrays, and no common
static type exists that all three satisfy.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import numpy as np

from gradkernels.tree import Tree, each

Array = Any
"""A numpy array, a torch tensor or a JAX array."""

FLOATS = ("float64", "float32")


@dataclass(frozen=True)
class Backend:
    """One library that computes. Making one imports nothing; the library loads at the first use of `xp`.

    Attributes:
        name: Import name of the library, the first part of a kernel's key.
        preference: Rank among libraries when times tie: fewer dependencies first.
        kinds: Kinds of device it computes on.
        arrays: Name of the library whose arrays it takes and gives, where it has none of its own.
    """

    name: str
    preference: int
    kinds: tuple[str, ...] = ("cpu",)
    arrays: str = ""

    @property
    def host(self) -> Backend:
        """The array library: itself, or the one whose arrays it takes."""
        return BACKENDS[self.arrays or self.name]

    @property
    def installed(self) -> bool:
        """Whether the library can be imported here (looked up, not imported)."""
        return _found(self.name)

    @property
    def xp(self) -> ModuleType:
        """The array namespace: `numpy`, `torch` or `jax.numpy`."""
        name = self.host.name
        return importlib.import_module("jax.numpy" if name == "jax" else name)

    def refuses(self, dtype: str, device: str) -> list[str]:
        """Reasons why this library cannot compute in `dtype` on `device` in this process."""
        if not self.installed:
            return [f"{self.name} is not installed: pip install {PACKAGES.get(self.name, self.name)}"]
        kind = device.partition(":")[0]
        if kind not in self.kinds:
            return [f"{self.name} computes on {' or '.join(self.kinds)} here, not on {device}"]
        if self.host.name == "torch" and kind == "cuda" and not self.xp.cuda.is_available():
            return ["torch sees no CUDA device on this machine"]
        if self.name == "jax" and dtype == "float64" and not _jax_has_x64():
            return [
                "JAX computes float64 as float32 until x64 is on: call "
                "jax.config.update('jax_enable_x64', True) or set JAX_ENABLE_X64=1 at your entry point"
            ]
        return []

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles are the one Backend of that name: `is` tells libraries apart."""
        return _named, (self.name,)

    def load(self) -> None:
        """Import the library, if it is installed."""
        if self.installed:
            importlib.import_module(self.name)
            _ = self.xp

    def put(self, arrays: Tree, device: str = "cpu") -> Tree:
        """A numpy array, or a tree of them, as arrays of this library; CPU torch tensors share the memory."""
        if self.host.name == "torch":
            return each(lambda array: _from_numpy(array).to(device), arrays)
        return each(self.xp.asarray, arrays) if self.host.name == "jax" else arrays

    def get(self, arrays: Tree) -> Tree:
        """An array of this library, or a tree of them, as numpy, writable; CPU torch tensors share the memory."""
        if self.host.name == "torch":
            return each(lambda tensor: tensor.numpy(force=True), arrays)
        return each(np.array, arrays) if self.host.name == "jax" else arrays

    def eager(self, device: str) -> bool:
        """Whether a result on `device` is computed when the call returns."""
        return self.host.name == "numpy" or (self.host.name == "torch" and device == "cpu")

    def wait(self, result: Any) -> Any:
        """Block until `result` (an array, or a dict or tuple of arrays) is computed; return it."""
        if self.host.name == "jax":
            return sys.modules["jax"].block_until_ready(result)
        if self.host.name == "torch" and (torch := sys.modules["torch"]).cuda.is_initialized():
            torch.cuda.synchronize()
        return result

    def compile(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function` compiled by the library where that is its normal use (`jax.jit`), else itself."""
        if self.host.name != "jax":
            return function
        jit: Callable[..., Any] = importlib.import_module("jax").jit
        return jit(function)


BACKENDS = {
    backend.name: backend
    for backend in (
        Backend("numpy", 0),
        Backend("torch", 1, ("cpu", "cuda")),
        Backend("numba", 2, arrays="numpy"),
        Backend("jax", 3),
        Backend("sklearn", 4, arrays="numpy"),
        Backend("statsmodels", 5, arrays="numpy"),
        Backend("opacus", 6, ("cpu", "cuda"), arrays="torch"),
        Backend("backpack", 7, ("cpu", "cuda"), arrays="torch"),
    )
}
"""Every library that a kernel can be of, by name."""

LIBRARIES = {name: backend for name, backend in BACKENDS.items() if backend.host is backend}
"""Those with arrays of their own."""

PACKAGES = {"sklearn": "scikit-learn", "backpack": "backpack-for-pytorch"}
"""What a library is called where it is installed from, if not by its import name."""


def _named(name: str) -> Backend:
    return BACKENDS[name]


def backend_of(array: Array) -> Backend | None:
    """The backend whose arrays `array` is one of; None for anything else. Imports nothing."""
    if isinstance(array, np.ndarray):
        # Others of its kinds are memory seen in another way; what is masked would come back to life.
        return None if isinstance(array, np.ma.MaskedArray) else BACKENDS["numpy"]
    if isinstance(array, getattr(sys.modules.get("torch"), "Tensor", ())):
        return BACKENDS["torch"]
    if isinstance(array, getattr(sys.modules.get("jax"), "Array", ())):
        return BACKENDS["jax"]
    return None


@lru_cache(maxsize=32)
def _found(name: str) -> bool:
    return find_spec(name) is not None


def _jax_has_x64() -> bool:
    if "jax" in sys.modules:
        return bool(sys.modules["jax"].config.jax_enable_x64)
    return os.environ.get("JAX_ENABLE_X64", "").lower() in ("1", "true", "yes", "on")


def _from_numpy(array: np.ndarray[Any, Any]) -> Array:
    torch = importlib.import_module("torch")
    # torch has neither negative strides nor fractions of an entry, which a column of a structured array can have.
    if any(stride < 0 or stride % array.itemsize for stride in array.strides):
        array = np.ascontiguousarray(array)
    # torch warns about memory that is read-only for numpy; kernels never write to their inputs (the
    # checker proves it), so it gets a view that does not say so.
    return torch.from_numpy(array if array.flags.writeable else np.asarray(_Writable(array)))


class _Writable:
    """The memory of a read-only array, described without the read-only flag."""

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        interface = array.__array_interface__
        self.owner = array
        self.__array_interface__ = {**interface, "data": (interface["data"][0], False)}
