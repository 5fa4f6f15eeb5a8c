"""The slope of a Regression as machine code, to be called through its address on a block of predictors.

What is compiled is small, and kept in numba's disk cache under a name that holds a digest of everything it was made
from: numba by itself looks at the code of one function, and would not see that a slope in another file has changed.
"""

from __future__ import annotations

import hashlib
from collections import namedtuple
from collections.abc import Callable
from contextlib import suppress
from dataclasses import fields
from functools import lru_cache
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import numpy as np
from numba import carray, cfunc, from_dtype, njit, types
from numba.core.caching import FunctionCache
from numba.core.errors import NumbaError

from gradkernels.engines.fused.codegen import elementary
from gradkernels.engines.fused.codegen.elementary import STRICT, XP
from gradkernels.problems import SoftmaxRegression

SLOPE: Any = None
SELF: Any = None


def _elementwise(eta, y, n, classes, step):
    predictor, target = carray(eta, (n,)), carray(y, (n,))
    for i in range(n):
        predictor[i] = SLOPE(SELF, XP, predictor[i], target[i])


def _softmax(eta, y, n, classes, step):
    """Overwrite eta by softmax(eta) - onehot(y); two lines behind the classes hold the largest eta and the sum."""
    lines, target = carray(eta, (classes + 2, step)), carray(y, (n,))
    top, total = lines[classes], lines[classes + 1]
    for i in range(n):
        top[i], total[i] = lines[0, i], 0
    for k in range(1, classes):
        for i in range(n):
            top[i] = XP.maximum(top[i], lines[k, i])
    for k in range(classes):
        for i in range(n):
            lines[k, i] = XP.exp(lines[k, i] - top[i])
            total[i] += lines[k, i]
    for k in range(classes):
        for i in range(n):
            lines[k, i] = lines[k, i] / total[i] - (target[i] == k)


@lru_cache(maxsize=256)
def compiled_slope(problem: Any, dtype: str) -> Any:
    """Compile the slope of a problem; keep it as long as its `address` is used.

    Args:
        problem: A regression.
        dtype: `float64` or `float32`.

    Raises:
        ValueError: numba cannot compile the slope.
    """
    number = from_dtype(np.dtype(dtype))
    line = types.CPointer(number)
    signature = types.void(line, line, types.intp, types.intp, types.intp)
    try:
        return cached_on_disk(cfunc, signature, **STRICT)(_source(problem, np.dtype(dtype)))
    except NumbaError as error:
        name = type(problem).__name__
        message = f"numba cannot compile {name}.slope; write it with operators and the functions of xp only: {error}"
        raise ValueError(message) from error


@lru_cache(maxsize=256)
def compile_errors(problem: Any, dtype: str) -> tuple[str, ...]:
    """Return why a problem's slope cannot be compiled, in one line; empty if it can."""
    try:
        compiled_slope(problem, dtype)
    except ValueError as error:
        return (" ".join(str(error).split())[:200],)
    return ()


def _source(problem: Any, dtype: np.dtype[Any]) -> FunctionType:
    slope = type(problem).slope
    if slope is SoftmaxRegression.slope:
        return with_stable_name(_softmax, "softmax")
    if problem.outputs:
        name = type(problem).__name__
        raise ValueError(f"{name}.slope has several predictors per sample; of these only softmax's is compiled")
    used = {field.name: getattr(problem, field.name) for field in fields(problem) if field.name in names_in_code(slope)}
    frozen = {name: dtype.type(value) if isinstance(value, float) else value for name, value in used.items()}
    itself = namedtuple("Fields", frozen)(**frozen)
    # What is loaded from the cache imports the slope's module again, by the name that it had.
    parts = (str(slope.__module__), type(problem).__qualname__, code_fingerprint(slope), repr(frozen))
    return with_stable_name(_elementwise, *parts, SELF=itself, SLOPE=njit(**STRICT)(slope))


def with_stable_name(function: Any, *parts: str, **globals_: Any) -> FunctionType:
    """Return `function` with other globals, under a name that is the same in every process and changes with `parts`.

    The name also changes with the source of this package, of which numba looks at one file only.

    Args:
        function: To be compiled.
        parts: What it is made from.
        globals_: Names that its code finds instead of those of its module.
    """
    digest = hashlib.sha256("\0".join((_own_source(), *parts)).encode()).hexdigest()[:16]
    made = FunctionType(function.__code__, {**function.__globals__, **globals_}, function.__name__)
    made.__qualname__ = f"{function.__name__.strip('_')}_{digest}"
    made.__module__ = function.__module__
    return made


def cached_on_disk(decorator: Callable[..., Any], *signature: Any, **options: Any) -> Callable[[FunctionType], Any]:
    """Return `decorator` with numba's disk cache, or without it where it has no folder or holds what cannot be loaded.

    Args:
        decorator: `njit` or `cfunc`.
        signature: What it compiles for.
        options: Passed on to it.
    """

    def decorate(function: FunctionType) -> Any:
        try:
            return decorator(*signature, cache=True, **options)(function)
        except NumbaError:
            raise
        except Exception:  # unpickling raises anything; what is no fault of the cache is raised again below
            with suppress(Exception):
                FunctionCache(function).flush()
        return decorator(*signature, **options)(function)

    return decorate


@lru_cache(maxsize=1)
def _own_source() -> str:
    return "".join(path.read_text() for path in sorted(Path(elementary.__file__).parents[1].rglob("*.py")))


def names_in_code(function: Any) -> set[str]:
    """Return the names of globals and attributes in a function's code and in the functions within it."""
    return _names(function.__code__)


def _names(code: CodeType) -> set[str]:
    return set(code.co_names).union(*(_names(const) for const in code.co_consts if isinstance(const, CodeType)))


def code_fingerprint(function: Any) -> str:
    """Describe what a function computes, as far as its code, its constants and the globals that it names tell."""
    seen: dict[int, str] = {}
    return _fingerprint(function, seen)


def _fingerprint(value: Any, seen: dict[int, str]) -> str:
    value = getattr(value, "py_func", value)  # what numba has wrapped already
    if id(value) in seen:
        return seen[id(value)]
    if isinstance(value, CodeType):
        return f"{value.co_code.hex()}{value.co_names}{[_fingerprint(const, seen) for const in value.co_consts]}"
    if isinstance(value, np.ndarray):  # whose repr is cut short
        return f"{value.dtype.str}{value.shape}{hashlib.sha256(value.tobytes()).hexdigest()}"
    if isinstance(value, tuple):
        return f"{type(value).__qualname__}{[_fingerprint(item, seen) for item in value]}"
    if not isinstance(value, FunctionType):
        return repr(value)
    seen[id(value)] = value.__qualname__
    named = {name: value.__globals__[name] for name in sorted(names_in_code(value)) if name in value.__globals__}
    cells = [cell.cell_contents for cell in value.__closure__ or ()]
    parts = [_fingerprint(value.__code__, seen), *(f"{k}={_fingerprint(v, seen)}" for k, v in named.items())]
    return "|".join([*parts, *(_fingerprint(cell, seen) for cell in cells), _fingerprint(value.__defaults__, seen)])
