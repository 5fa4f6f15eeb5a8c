"""What may be given: every refusal is a sentence that says what was given, what is allowed and what to do."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np

from gradkernels.backend import LIBRARIES, Array, Backend, backend_of
from gradkernels.problems import BlackBox, Problem, Regression
from gradkernels.problems.regression.conversion import convert_target, is_integral
from gradkernels.problems.regression.target_guard import target_guard
from gradkernels.quantity import Quantity
from gradkernels.tree import Tree, count, leaves, named

WORK = 1000
"""Steps after which two views are no longer searched for a common entry; columns of one buffer take a few."""


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
    validate_problem(problem)
    arrays = dict(pair for tree in (("theta", theta), ("x", x), ("y", y)) for pair in named(*tree))
    library = _same_library(arrays, problem)
    floats = problem.floats(theta, x, y)
    if isinstance(problem, BlackBox):
        for name, array in floats.items():
            if "complex" in dtype_of(array):
                raise TypeError(f"{name} is {array.dtype}; {_COMPLEX}")
            _float(name, array, problem)
    else:
        _same_floats(arrays, floats, problem)
    _same("device", {name: str(array.device) for name, array in arrays.items()})
    problem.validate(theta, x, y)
    if isinstance(problem, Regression) and (look := target_guard(problem)) is not None:
        look(convert_target(problem, x, y))
    return library


def validate_problem(problem: Any) -> None:
    """Raise a TypeError unless `problem` is a Problem that kernels can be kept for."""
    if not isinstance(problem, Problem):
        raise TypeError(f"problem is a {type(problem).__name__}; pass a Problem such as gk.LinearRegression()")
    if type(problem).__hash__ is None:
        name = type(problem).__name__
        raise TypeError(f"problem is a {name}, which has no hash; declare it with @dataclass(frozen=True)")


def validate_count(name: str, value: Any) -> None:
    """Raise unless `value` is None, or a whole number of at least 1."""
    if value is not None and not isinstance(value, int | np.integer):
        raise TypeError(f"{name} is {value!r}; it must be a whole number of at least 1, or None")
    if value is not None and not value >= 1:
        raise ValueError(f"{name} is {value}; it must be at least 1, or None")


def dtype_of(array: Array) -> str:
    """Return `float64`, `float32`, ... whatever the library."""
    return str(array.dtype).removeprefix("torch.")


def device_of(array: Array) -> str:
    """Return `cpu`, or torch's name of the device."""
    backend = backend_of(array)
    return "cpu" if backend is None else backend.arrays.device_of(array)


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
    _same("dtype", {name: str(array.dtype) for name, array in floats.items()})


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


def _same(what: str, given: dict[str, str]) -> None:
    if len(set(given.values())) > 1:
        listed = ", ".join(f"{name} {value}" for name, value in given.items())
        raise TypeError(f"mixed {what}: {listed}; convert them to one {what}")


def validate_out(quantity: Quantity, theta: Tree, x: Tree, y: Tree, out: Any) -> None:
    """Refuse memory that a result cannot be written to.

    Args:
        quantity: What the result is.
        theta: Parameters.
        x: Features or inputs, samples first.
        y: Targets, samples first.
        out: The memory: an array, or a dict of them.

    Raises:
        TypeError: It is not an array, or dict of arrays, of the inputs' library, or of one whose arrays cannot be
            written to.
        ValueError: Wrong names, shape or dtype, read-only, or shared with an input or with another part of it.
    """
    like = leaves(theta)[0]
    library = backend_of(like)
    if library is not None and library.arrays.read_only:
        raise TypeError(f"{library.arrays.read_only}; leave out= out")
    blank = quantity.blank(count(y), theta)
    _require_names(blank, out)
    inputs, parts = leaves((theta, x, y)), dict(named("out", out))
    for name, wanted in named("out", blank):
        _require_writable(name, parts[name], wanted.shape, like)
        if any(overlap(parts[name], array) for array in inputs):
            raise ValueError(f"{name} shares memory with an input, which must not be modified; pass other memory")
    for (name, part), (other, another) in combinations(parts.items(), 2):
        if overlap(part, another):
            raise ValueError(f"{name} and {other} share memory; pass memory of its own for each")


def _require_names(blank: Any, out: Any) -> None:
    if isinstance(blank, dict):
        if not isinstance(out, dict):
            raise TypeError(f"out is a {type(out).__name__}; it must be a dict of buffers with theta's names")
        if blank.keys() != out.keys():
            wrong = [*(f"lacks {name!r}" for name in blank.keys() - out.keys()),
                     *(f"has {name!r} besides" for name in out.keys() - blank.keys())]  # fmt: skip
            raise ValueError(f"out {' and '.join(sorted(wrong)[:4])}; its names must be those of theta")


def _require_writable(name: str, out: Any, shape: tuple[int, ...], like: Array) -> None:
    library = backend_of(like)
    if library is None or backend_of(out) is not library:
        given = f"{name} is a {type(out).__module__}.{type(out).__name__}"
        hint = "; pass numpy.asarray(out), which is the same memory" if isinstance(out, np.ndarray) else ""
        raise TypeError(f"{given}; it must be an array of the same library as theta{hint}")
    if tuple(out.shape) != shape or out.dtype != like.dtype or out.device != like.device:
        given = f"{name} is {tuple(out.shape)} {dtype_of(out)} on {out.device}"
        raise ValueError(f"{given}; it must be {shape} {dtype_of(like)} on {like.device}")
    if isinstance(out, np.ndarray) and not out.flags.writeable:
        raise ValueError(f"{name} is read-only; pass writable memory")
    if getattr(out, "requires_grad", False):
        raise ValueError(f"{name} requires gradients, so it cannot be written to; pass {name}.detach()")


def overlap(one: Array, other: Array) -> bool:
    """Return whether two arrays of one library share an entry; where that is hard to say, whether they may."""
    if isinstance(one, np.ndarray):
        return isinstance(other, np.ndarray) and np.may_share_memory(one, other) and _shared(one, other)
    if one.device != other.device:
        return False
    (low, high), (first, last) = _span(one), _span(other)
    if low >= last or first >= high or _beside(one, other):
        return False
    return _shared(*(np.asarray(_Places(part)) for part in (one, other)))


def _beside(one: Array, other: Array) -> bool:
    """Return whether these are columns of one buffer: quickly told where each row has its own in one stretch."""
    if not (one.ndim and other.ndim):
        return False
    size, pitch = one.element_size(), one.stride(0) * one.element_size()
    if not pitch or other.element_size() != size or other.stride(0) != one.stride(0):
        return False
    off = (other.data_ptr() - one.data_ptr()) % pitch
    return off >= _entries(one, 1) * size and off + _entries(other, 1) * size <= pitch


def _shared(one: Any, other: Any) -> bool:
    try:
        return np.shares_memory(one, other, max_work=WORK)  # type: ignore[arg-type]  # its stubs say 0 or -1
    except np.exceptions.TooHardError:
        return True


class _Places:
    """Where a tensor's entries are, on whatever device, for numpy, which looks at none of them.

    Args:
        tensor: Of any strides.
    """

    def __init__(self, tensor: Array) -> None:
        size = tensor.element_size()
        self.__array_interface__ = {
            "data": (tensor.data_ptr(), True),
            "shape": tuple(tensor.shape),
            "strides": tuple(step * size for step in tensor.stride()),
            "typestr": f"|V{size}",
            "version": 3,
        }


def _span(tensor: Array) -> tuple[int, int]:
    """Return where a tensor's memory starts, and where it ends."""
    start = tensor.data_ptr()
    if not tensor.numel():
        return start, start
    return start, start + _entries(tensor) * tensor.element_size()


def _entries(tensor: Array, first: int = 0) -> int:
    """Count from the first entry to the last, along the axes from `first` on."""
    return 1 + sum((size - 1) * step for size, step in zip(tensor.shape[first:], tensor.stride()[first:], strict=True))
