"""How the options of a caller are looked at: each check returns what kernels take, or raises a sentence.

A check is `check(value, n, theta)`: n samples, theta the parameters as arrays of the caller's library.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from gradkernels.backend import Array, backend_of
from gradkernels.memory.installed import installed_bytes
from gradkernels.names import dtype_name
from gradkernels.row_norms import half
from gradkernels.tree import Tree, leaves

MOST_GROUP = 2**63 - 1
LARGE_RESULT = 2**30
"""Bytes from which on it is asked whether there is so much memory."""
MOST_MARKED = 4
"""Times as high as there are samples: group numbers below are marked where they occur, others sorted."""


def positive(max_norm: Any, n: int = 0, theta: Tree = None, name: str = "max_norm") -> float:
    """Return a length as a float, or raise a ValueError unless it is a positive number.

    Args:
        max_norm: The length; infinity is one.
        n: Number of samples.
        theta: Parameters.
        name: Of the option, for messages.
    """
    try:
        # A numpy scalar, such as a median of norms, would turn float32 results into float64.
        length = float(max_norm)
    except (TypeError, ValueError):
        length = float("nan")
    if not length > 0:
        raise ValueError(f"{name} is {max_norm}; it must be positive (float('inf') clips nothing)")
    return length


def like(value: Any, array: Array, name: str, dtype: str | None = None) -> Array:
    """Return numbers as an array of the library, device and dtype of `array`.

    Args:
        value: An array of that library, a numpy array, or a list of numbers.
        array: Of the caller's theta.
        name: Of the option, for messages.
        dtype: Instead of that of `array`.

    Raises:
        TypeError: It is nothing of the kind, or an array of a third library or on another device.
    """
    dtype = dtype or dtype_name(array.dtype)
    library = backend_of(array)
    assert library is not None
    own = backend_of(value)
    if own is not None and "complex" in dtype_name(value.dtype):
        raise TypeError(f"{name} holds {dtype_name(value.dtype)}; it must hold real numbers")
    if own is library and dtype_name(value.dtype) != "object":
        value = value.detach() if hasattr(value, "detach") else value  # no kernel's result has a graph
        if (here := library.arrays.device_of(value)) != (there := library.arrays.device_of(array)):
            raise TypeError(f"{name} is on {here}, theta on {there}; move {name} there")
        return library.arrays.cast(value, dtype) if dtype_name(value.dtype) != dtype else value
    if own is not None and not isinstance(value, np.ndarray):
        raise TypeError(f"{name} is an array of {own.name}, theta of {library.name}; pass both of the same library")
    placed = library.put(numbers_of(value, name), library.arrays.device_of(array))
    return library.arrays.cast(placed, dtype)


def numbers_of(value: Any, name: str) -> Any:
    """Return real numbers as numpy's float64, or raise a TypeError.

    Args:
        value: An array of numpy, or a list of numbers.
        name: Of the option, for messages.
    """
    try:
        found = np.asarray(value)
    except (TypeError, ValueError):  # lists of different lengths
        found = np.asarray(None)
    if found.dtype.kind not in "biuf":
        raise TypeError(f"{name} is a {type(value).__name__}; pass an array, or a list of numbers")
    return found.astype(np.float64)


def structured(name: str) -> Any:
    """Return the check of arrays of theta's structure and shapes, or of several with one axis more in front.

    Args:
        name: Of the option.
    """

    def check(value: Any, n: int, theta: Tree) -> Tree:
        if not isinstance(theta, dict):
            return _shaped(name, value, theta)
        if not isinstance(value, dict):
            raise TypeError(f"{name} is a {type(value).__name__}; it must be a dict of arrays with theta's names")
        if wrong := sorted(map(repr, value.keys() ^ theta.keys())):
            raise ValueError(f"{name} and theta differ in {', '.join(wrong[:4])}; the names must be those of theta")
        found = {key: _shaped(f"{name}[{key!r}]", value[key], part) for key, part in theta.items()}
        leading = {tuple(part.shape[: part.ndim - theta[key].ndim]) for key, part in found.items()}
        if len(leading) > 1:
            several = " and ".join(map(str, sorted(leading)))
            raise ValueError(f"{name} has parts with leading axes {several}; give each the same number of directions")
        return found

    return check


def _shaped(name: str, value: Any, part: Array) -> Array:
    found = like(value, part, name)
    shape = tuple(part.shape)
    if tuple(found.shape) != shape and tuple(found.shape[1:]) != shape:
        raise ValueError(f"{name} is {tuple(found.shape)}; it must be {shape}, or {('K', *shape)} for K directions")
    return found


def by_sample(name: str, most_axes: int) -> Any:
    """Return the check of numbers `(n,)`, or `(n, K)` where two axes are allowed.

    Args:
        name: Of the option.
        most_axes: One or two.
    """

    def check(value: Any, n: int, theta: Tree) -> Array:
        first = leaves(theta)[0]
        # In half precision, weights of 1e-6 have but four binary digits.
        found = like(value, first, name, "float32" if half(first) else None)
        if not 1 <= found.ndim <= most_axes or len(found) != n:
            allowed = f"({n},)" if most_axes == 1 else f"({n},) or ({n}, K)"
            raise ValueError(f"{name} is {tuple(found.shape)}; it must be {allowed}, as there are {n} samples")
        require_room(f"{name} {tuple(found.shape)}", math.prod(found.shape[1:]) * entries_of(theta), theta)
        return found

    return check


def whole_number(name: str, least: int, entries: Callable[[int, int, Tree], int] = lambda value, n, theta: 0) -> Any:
    """Return the check of a whole number.

    Args:
        name: Of the option.
        least: Smallest that is allowed.
        entries: `entries(value, n, theta)`, how many a result has with that number.
    """

    def check(value: Any, n: int, theta: Tree) -> int:
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
            raise ValueError(f"{name} is {value!r}; it must be a whole number of at least {least}")
        require_room(f"{name}={value:,}", entries(int(value), n, theta), theta)
        return int(value)

    return check


def entries_of(theta: Tree) -> int:
    """Return P, the number of entries of all parameters."""
    return sum(math.prod(part.shape) for part in leaves(theta))


def require_room(given: str, entries: int, theta: Tree) -> None:
    """Raise a ValueError where a result would have more bytes than there is memory.

    Args:
        given: What of the call asks for it, for the message.
        entries: Of the result.
        theta: Parameters, whose dtype it has.
    """
    size = entries * max(part.dtype.itemsize for part in leaves(theta))
    if size >= LARGE_RESULT and (most := _memory()) is not None and size > most:
        raise ValueError(f"the result with {given} has {size:,} bytes, of memory there are {most:,}; ask for less")


@lru_cache(maxsize=1)
def _memory() -> int | None:
    return installed_bytes()


def one_of(name: str, allowed: tuple[str, ...]) -> Any:
    """Return the check of a word.

    Args:
        name: Of the option.
        allowed: Words.
    """

    def check(value: Any, n: int, theta: Tree) -> str:
        if not isinstance(value, str) or value not in allowed:
            raise ValueError(f"{name} is {value!r}; it must be one of {', '.join(allowed)}")
        return str(value)

    return check


def group_numbers(value: Any, n: int, theta: Tree) -> Any:
    """Return the number of each sample's group, `(n,)`, as numpy's int64.

    Args:
        value: Whole numbers from 0 on: an array of any library, or a list.
        n: Number of samples.
        theta: Parameters.

    Raises:
        TypeError: They are no whole numbers.
        ValueError: Another shape, or a negative number.
    """
    library = backend_of(value)
    try:
        numbers = np.asarray(library.get(value) if library is not None else value)
    except (TypeError, ValueError):  # lists of different lengths
        numbers = np.asarray(None)
    if numbers.dtype.kind not in "iu" and numbers.size:
        raise TypeError(f"groups holds {numbers.dtype}; it must hold whole numbers, the group of each sample")
    if numbers.shape != (n,):
        raise ValueError(f"groups is {numbers.shape}; it must be ({n},), as there are {n} samples")
    if numbers.size and (low := numbers.min()) < 0:
        raise ValueError(f"groups holds {low}; groups are numbered from 0 on")
    if numbers.size and (high := numbers.max()) > MOST_GROUP:
        raise ValueError(f"groups holds {high}; the highest number of a group is {MOST_GROUP}")
    return numbers.astype(np.int64, copy=False)


def present_groups(value: Any, n: int, theta: Tree) -> Any:
    """Return the number of each sample's group among those that there are, `(n,)`: numbers below n.

    Args:
        value: As of `group_numbers`.
        n: Number of samples.
        theta: Parameters.
    """
    numbers = group_numbers(value, n, theta)
    if not n or numbers.max() >= MOST_MARKED * n:
        return np.unique(numbers, return_inverse=True)[1]
    present = np.zeros(int(numbers.max()) + 1, bool)  # marks, in a tenth of the time that sorting takes
    present[numbers] = True
    return numbers if present.all() else (np.cumsum(present) - 1)[numbers]
