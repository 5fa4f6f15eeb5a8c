"""What may be given: every refusal is a sentence that says what was given, what is allowed and what to do."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradkernels.backend import BACKENDS, FLOATS, LIBRARIES, Array, Backend, backend_of
from gradkernels.problems import Problem
from gradkernels.quantity import Quantity
from gradkernels.tree import Tree, count, leaves, named


def validate_inputs(problem: Problem, theta: Array, x: Array, y: Tree) -> Backend:
    """The library whose arrays these are.

    Raises:
        TypeError: Not arrays, or of different libraries, dtypes or devices, or no supported float dtype.
        ValueError: Shapes that do not fit together.
    """
    validate_problem(problem)
    arrays = dict(pair for tree in (("theta", theta), ("x", x), ("y", y)) for pair in named(*tree))
    library = _same_library(arrays)
    classes = targets_of(problem, y)
    for name, array in arrays.items():
        if array is classes:
            _whole(name, array)
        else:
            _float(name, array)
    _same("dtype", {name: str(array.dtype) for name, array in arrays.items() if array is not classes})
    _same("device", {name: str(array.device) for name, array in arrays.items()})
    problem.validate(theta, x, y)
    return library


def targets_of(problem: Problem, y: Tree) -> Array | None:
    """The array of class numbers, which has a dtype of its own; None where targets are numbers like the others."""
    return leaves(y)[0] if problem.integer_target else None


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
                f"{', '.join(LIBRARIES)}; convert it, for instance with numpy.asarray({name}, dtype='float64')"
            )
    _same("library", {name: library.name for name, library in libraries.items() if library})
    return next(library for library in libraries.values() if library)


def _whole(name: str, array: Array) -> None:
    if dtype_of(array) not in ("int64", "int32"):
        raise TypeError(f"{name} is {array.dtype}; class numbers must be int64 or int32; convert it with astype or to")


def _float(name: str, array: Array) -> None:
    if isinstance(array, np.ndarray) and not array.dtype.isnative:
        raise TypeError(f"{name} is in foreign byte order ({array.dtype.str}); use {name}.astype({array.dtype.name!r})")
    if dtype_of(array) not in FLOATS:
        raise TypeError(f"{name} is {array.dtype}; allowed are {' and '.join(FLOATS)}; convert it with astype or to")


def _same(what: str, given: dict[str, str]) -> None:
    if len(set(given.values())) > 1:
        listed = ", ".join(f"{name} {value}" for name, value in given.items())
        raise TypeError(f"mixed {what}: {listed}; convert them to one {what}")


def validate_out(quantity: Quantity, theta: Array, x: Array, y: Tree, out: Any) -> None:
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
    shape = quantity.shape(count(y), tuple(theta.shape))
    if tuple(out.shape) != shape or out.dtype != theta.dtype or out.device != theta.device:
        given = f"out is {tuple(out.shape)} {dtype_of(out)} on {out.device}"
        raise ValueError(f"{given}; it must be {shape} {dtype_of(theta)} on {theta.device}")
    if isinstance(out, np.ndarray) and not out.flags.writeable:
        raise ValueError("out is read-only; pass writable memory")
    if getattr(out, "requires_grad", False):
        raise ValueError("out requires gradients, so it cannot be written to; pass out.detach()")
    if device_of(out) == "cpu" and any(
        np.may_share_memory(library.get(out), library.get(a)) for a in leaves((theta, x, y))
    ):
        raise ValueError("out shares memory with an input, which must not be modified; pass other memory")
