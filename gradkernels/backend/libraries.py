"""Libraries that compute, by name, each with the row of the library whose arrays it takes."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import numpy as np

from gradkernels.backend.array_library import Array, ArrayLibrary
from gradkernels.backend.jax_arrays import JAX
from gradkernels.backend.numpy_arrays import NUMPY
from gradkernels.backend.torch_arrays import TORCH
from gradkernels.tree import Tree, each


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

_BY_NAMESPACE = {backend.arrays.namespace or name: backend.arrays for name, backend in LIBRARIES.items()}
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


def arrays_of(array: Array) -> ArrayLibrary:
    """Return the row of the library that `array` is of, numpy's for anything else."""
    backend = backend_of(array)
    return NUMPY if backend is None else backend.arrays


def arrays_by_namespace(xp: Any) -> ArrayLibrary:
    """Return the row of the library with this array namespace, numpy's for any other."""
    return _BY_NAMESPACE.get(xp.__name__, NUMPY)


@lru_cache(maxsize=32)
def _found(name: str) -> bool:
    return find_spec(name) is not None
