"""What may be given: every refusal is a sentence that says what was given, what is allowed and what to do."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradkernels.backend import LIBRARIES, Array, Backend, arrays_of, backend_of
from gradkernels.names import dtype_name
from gradkernels.problems import BlackBox, ExampleProblem, Problem, Regression
from gradkernels.problems.regression.conversion import convert_target, is_integral
from gradkernels.problems.regression.target_guard import target_guard
from gradkernels.quantities.shared.outputs import output_axes
from gradkernels.quantity import Quantity
from gradkernels.tree import Tree, named


def validate_inputs(problem: Problem, theta: Array, x: Array, y: Tree) -> Backend:
    """Return the library whose arrays these are, once they fit together.

    Args:
        problem: What is differentiated.
        theta: Parameters.
        x: Features or inputs, samples first.
        y: Targets, samples first.

    Raises:
        TypeError: Not arrays, or of different libraries, dtypes or devices, or no supported float dtype.
        ValueError: Shapes that do not fit together, targets without a loss.
    """
    library = validate_kinds(problem, theta, x, y)
    if isinstance(problem, Regression) and (look := target_guard(problem)) is not None:
        look(convert_target(problem, x, y))
    return library


def validate_kinds(problem: Problem, theta: Array, x: Array, y: Tree) -> Backend:
    """Look at all but the entries: return the library, or raise as `validate_inputs`.

    Args:
        problem: What is differentiated.
        theta: Parameters.
        x: Features or inputs, samples first.
        y: Targets, samples first.
    """
    validate_problem(problem)
    arrays = dict(pair for tree in (("theta", theta), ("x", x), ("y", y)) for pair in named(*tree))
    library = _same_library(arrays, problem)
    floats = problem.floats(theta, x, y)
    if isinstance(problem, ExampleProblem):
        for name, array in floats.items():
            if "complex" in dtype_of(array):
                raise TypeError(f"{name} is {array.dtype}; {_COMPLEX}")
            _float(name, array, problem)
    else:
        _same_floats(arrays, floats, problem)
    traced = [name for name, array in arrays.items() if not hasattr(array, "device")]  # by jax.jit, which has none yet
    if traced and isinstance(problem, Regression):
        raise TypeError(_TRACED.format(name=traced[0]))
    _same("device", {name: str(array.device) for name, array in arrays.items() if name not in traced})
    problem.validate(theta, x, y)
    return library


def validate_problem(problem: Any) -> None:
    """Raise a TypeError unless `problem` is a Problem that kernels can be kept for."""
    if not isinstance(problem, Problem):
        raise TypeError(f"problem is a {type(problem).__name__}; pass a Problem such as gk.LinearRegression()")
    if type(problem).__hash__ is None:
        name = type(problem).__name__
        raise TypeError(f"problem is a {name}, which has no hash; declare it with @dataclass(frozen=True)")


def validate_asked(problem: Problem, asked: Quantity, *targets: Tree) -> None:
    """Raise unless a quantity can be asked of a problem: one of outputs of a problem of outputs.

    Args:
        problem: What is differentiated.
        asked: The quantity.
        targets: y as the caller has them, if there are any yet.

    Raises:
        TypeError: It is no problem, it is a loss of outputs or has none, or it is not said which of them are meant.
        ValueError: Single outputs are meant, and the quantity is of all.
    """
    validate_problem(problem)
    if asked.of_outputs and not problem.is_of_outputs:
        problem.of_outputs()  # says so where there are none
        raise TypeError(
            f"{asked} is of a model's outputs, and this problem is of a loss; pass problem.of_outputs(), and None for y"
        )
    for y in targets if problem.is_of_outputs else ():
        if y is None and not asked.of_outputs:
            raise TypeError(
                f"y is None; {asked} of a problem of outputs is of one of them for each sample: pass their numbers "
                "(n,), or a weight for each"
            )
        if y is not None:
            output_axes(asked, y)


def validate_count(name: str, value: Any) -> None:
    """Raise unless `value` is None, or a whole number of at least 1."""
    if value is not None and not isinstance(value, int | np.integer):
        raise TypeError(f"{name} is {value!r}; it must be a whole number of at least 1, or None")
    if value is not None and not value >= 1:
        raise ValueError(f"{name} is {value}; it must be at least 1, or None")


def dtype_of(array: Array) -> str:
    """Return `float64`, `float32`, ... whatever the library."""
    return dtype_name(array.dtype)


def device_of(array: Array) -> str:
    """Return `cpu`, or torch's name of the device."""
    return arrays_of(array).device_of(array)


def _same_library(arrays: dict[str, Array], problem: Problem) -> Backend:
    libraries = {name: backend_of(array) for name, array in arrays.items()}
    for name, library in libraries.items():
        if library is None or library.name not in (problem.libraries or LIBRARIES):
            given = f"{name} is a {type(arrays[name]).__module__}.{type(arrays[name]).__name__}"
            hint = _MASKED if isinstance(arrays[name], np.ma.MaskedArray) else _ALLOWED[isinstance(problem, BlackBox)]
            raise TypeError(f"{given}; {hint.format(name=name)}")
    _same("library", {name: library.name for name, library in libraries.items() if library})
    return next(library for library in libraries.values() if library)


_ALLOWED = {
    False: f"allowed are arrays of {', '.join(LIBRARIES)}; convert it, for instance with "
    "numpy.asarray({name}, dtype='float64')",
    True: "a module takes torch tensors, or tuples, lists or dicts of them; convert it, for instance with "
    "torch.as_tensor({name}), or name it in shared= of the ModuleProblem if it is the same for all samples",
}
"""What may be given, by whether the problem is a black box."""

_TRACED = (
    "{name} is being traced by jax.jit, grad or vmap, and has no numbers, which targets and kernels of a regression "
    "are looked at by; call outside of it, or make a gk.FunctionProblem of the loss"
)
_COMPLEX = (
    "rows, norms and moments are of real parameters: have the model keep torch.view_as_real of it, and make it complex "
    "in its forward pass with torch.view_as_complex"
)
_MASKED = "masks are not heeded; leave masked samples out, or fill them and pass {name}.filled(value)"


def _same_floats(arrays: dict[str, Array], floats: dict[str, Array], problem: Problem) -> None:
    """Raise unless floats have one dtype that the problem allows; integers as targets stand for their floats."""
    floats = {name: array for name, array in floats.items() if name in ("theta", "x") or not is_integral(array)}
    for name, array in floats.items():
        _float(name, array, problem)
    for name in arrays.keys() - floats.keys():
        _whole(name, arrays[name])
    _same("dtype", {name: array.dtype for name, array in floats.items()})


def _whole(name: str, array: Array) -> None:
    if not is_integral(array):
        raise TypeError(f"{name} is {array.dtype}; class numbers must be integers; convert it with astype or to")


def _float(name: str, array: Array, problem: Problem) -> None:
    if isinstance(array, np.ndarray) and not array.dtype.isnative:
        raise TypeError(f"{name} is in foreign byte order ({array.dtype.str}); use {name}.astype({array.dtype.name!r})")
    if dtype_of(array) not in problem.dtypes:
        raise TypeError(
            f"{name} is {array.dtype}; allowed are {' and '.join(problem.dtypes)}; convert it with astype or to"
        )


def _same(what: str, given: dict[str, Any]) -> None:
    if len(set(given.values())) > 1:
        listed = ", ".join(f"{name} {value}" for name, value in given.items())
        raise TypeError(f"mixed {what}: {listed}; convert them to one {what}")
