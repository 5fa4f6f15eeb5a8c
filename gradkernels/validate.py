"""What may be given: every refusal is a sentence that says what was given, what is allowed and what to do."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradkernels.backend import BACKENDS, FLOATS, Array, Backend, backend_of
from gradkernels.problems import Problem
from gradkernels.quantity import Quantity

NAMES = ("theta", "x", "y")


def validate_inputs(problem: Problem, theta: Array, x: Array, y: Array) -> Backend:
    """The library whose arrays these are.

    Raises:
        TypeError: Not arrays, or of different libraries, dtypes or devices, or no supported float dtype.
        ValueError: Shapes that do not fit together.
    """
    validate_problem(problem)
    arrays = dict(zip(NAMES, (theta, x, y), strict=True))
    library = _same_library(arrays)
    for name, array in arrays.items():
        _float(name, array)
    for what in ("dtype", "device"):
        _same(what, {name: str(getattr(array, what)) for name, array in arrays.items()})
    problem.validate(theta, x, y)
    return library


def validate_problem(problem: Any) -> None:
    """Raise a TypeError unless `problem` is a Problem that kernels can be kept for."""
    if not isinstance(problem, Problem):
        raise TypeError(f"problem is a {type(problem).__name__}; pass a Problem such as gk.LinearRegression()")
    if type(problem).__hash__ is None:
        name = type(problem).__name__
        raise TypeError(f"problem is a {name}, which has no hash; declare it with @dataclass(frozen=True)")


def dtype_of(array: Array) -> str:
    """`float64`, `float32`, ... whatever the library."""
    return str(array.dtype).removeprefix("torch.")


def device_of(array: Array) -> str:
    """`cpu`, or torch's name of the device."""
    return str(array.device) if backend_of(array) is BACKENDS["torch"] else "cpu"


def _same_library(arrays: dict[str, Array]) -> Backend:
    libraries = {name: backend_of(array) for name, array in arrays.items()}
    for name, library in libraries.items():
        if library is None:
            raise TypeError(
                f"{name} is a {type(arrays[name]).__module__}.{type(arrays[name]).__name__}; allowed are arrays of "
                f"{', '.join(BACKENDS)}; convert it, for instance with numpy.asarray({name}, dtype='float64')"
            )
    _same("library", {name: library.name for name, library in libraries.items() if library})
    return next(library for library in libraries.values() if library)


def _float(name: str, array: Array) -> None:
    if isinstance(array, np.ndarray) and not array.dtype.isnative:
        raise TypeError(f"{name} is in foreign byte order ({array.dtype.str}); use {name}.astype({array.dtype.name!r})")
    if dtype_of(array) not in FLOATS:
        raise TypeError(f"{name} is {array.dtype}; allowed are {' and '.join(FLOATS)}; convert it with astype or to")


def _same(what: str, given: dict[str, str]) -> None:
    if len(set(given.values())) > 1:
        listed = ", ".join(f"{name} {value}" for name, value in given.items())
        raise TypeError(f"mixed {what}: {listed}; convert them to one {what}")


def validate_out(quantity: Quantity, theta: Array, x: Array, y: Array, out: Any) -> None:
    """Refuse memory that a result cannot be written to.

    Raises:
        TypeError: It is not an array of the inputs' library, or of one whose arrays cannot be written to.
        ValueError: Wrong shape or dtype, read-only, or shared with an input.
    """
    library = backend_of(theta)
    if library is BACKENDS["jax"]:
        raise TypeError("JAX arrays cannot be written to; leave out= out")
    if library is None or backend_of(out) is not library:
        given = f"out is a {type(out).__module__}.{type(out).__name__}"
        hint = "; pass numpy.asarray(out), which is the same memory" if isinstance(out, np.ndarray) else ""
        raise TypeError(f"{given}; it must be a plain array of the same library as theta{hint}")
    shape = quantity.shape(len(y), tuple(theta.shape))
    if tuple(out.shape) != shape or out.dtype != theta.dtype or out.device != theta.device:
        given = f"out is {tuple(out.shape)} {dtype_of(out)} on {out.device}"
        raise ValueError(f"{given}; it must be {shape} {dtype_of(theta)} on {theta.device}")
    if isinstance(out, np.ndarray) and not out.flags.writeable:
        raise ValueError("out is read-only; pass writable memory")
    if getattr(out, "requires_grad", False):
        raise ValueError("out requires gradients, so it cannot be written to; pass out.detach()")
    if device_of(out) == "cpu" and any(np.may_share_memory(library.get(out), library.get(a)) for a in (theta, x, y)):
        raise ValueError("out shares memory with an input, which must not be modified; pass other memory")
