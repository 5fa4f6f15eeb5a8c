"""Import the winner: the five quantities, each computed by the fastest kernel that is proven and installed.

`gradient(problem, theta, x, y)` and its siblings find the kernel once for each combination of problem, shapes
and dtypes and keep it, so that a call costs about a microsecond more than the kernel. `fastest` hands out the
kernel itself.
"""

from __future__ import annotations

import os
from contextlib import nullcontext
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

from gradkernels.backend import BACKENDS, Array, Backend
from gradkernels.case import Case
from gradkernels.dispatch import pickling as _packing  # noqa: F401  so that what is bound here can be pickled
from gradkernels.dispatch.bind import Bound, Way, bind, wanted
from gradkernels.dispatch.candidates import forget as forget_choices
from gradkernels.dispatch.select import Request
from gradkernels.problems import BlackBox, Problem, Regression, Weighted
from gradkernels.problems.regression.conversion import needs_conversion
from gradkernels.quantity import Moments, Quantity, quantity
from gradkernels.tree import Tree, count, leaves, structure
from gradkernels.validate import device_of, dtype_of, validate_inputs, validate_problem

Results = str | os.PathLike[str] | None
MOST_BOUND = 4096
MOST_WANTED = 64
"""Of a module, that differ in what is asked for; a limit of memory may be another at each step."""

_quantity = quantity


def fastest(
    problem: Problem,
    quantity: str | Quantity,
    *,
    n: int | None = None,
    like: tuple[Array, Array, Tree] | None = None,
    features: int = 1,
    dtype: str | None = None,
    device: str | None = None,
    threads: int | None = None,
    results: Results = None,
    max_bytes: int | None = None,
    calls: int | None = None,
    kernel: Way = None,
    audit: bool = True,
) -> Bound:
    """The fastest kernel for a problem, a quantity and a size, bound and ready to call.

    Args:
        problem: What is differentiated.
        quantity: `gradient`, `per_sample`, `norms`, `moments` or `clipped_sum`.
        n: Number of samples; numpy arrays are assumed (torch tensors on a device other than the CPU, and for modules,
            whose `example` is then what a kernel is proven on).
        like: `(theta, x, y)` to read sizes, dtype, device and library off, instead of `n`; for a weighted problem
            y is `(target, sample_weight)`, for a module theta may be None.
        features: d, with `n`.
        dtype: With `n`; None for float64, for a module its own.
        device: With `n`; None for the CPU, for a module its own.
        threads: That the kernel may use; None for as many as this process may use.
        results: A results file to decide by, instead of this machine's wisdom or the shipped table.
        max_bytes: Peak memory allowed, in bytes.
        calls: How often the kernel will be called, to weigh the first call of compiled kernels; None for many.
        kernel: Take this way (`numpy.broadcast`), key or Kernel instead of the fastest.
        audit: Of a module, whether calls are audited now and then (`gk.audit`), and what a kernel cannot do is
            computed by the next one; False for the bare kernel.

    Returns:
        The bound kernel; its `why` explains the choice.

    Raises:
        ValueError: Neither or both of `n` and `like`; unknown names; nothing can do the case.
        TypeError: Arrays of the wrong kind or dtype.
        Disagreement: The kernel computes this problem wrongly.
    """
    _at_least_one(threads=threads, calls=calls, max_bytes=max_bytes)
    if like is not None and n is None:
        return bind(_request(problem, quantity, like, threads, results, max_bytes, calls), kernel, audit)
    if n is None or like is not None:
        raise ValueError(f"give either n= or like=(theta, x, y), not {'neither' if n is None else 'both'}")
    validate_problem(problem)
    usual = ("float64", "cpu")
    if isinstance(problem, BlackBox):
        own = leaves(problem.parameters())[0]
        usual = (dtype_of(own), device_of(own))
    where = (dtype or usual[0], device or usual[1])
    case = Case(problem, _quantity(quantity), n, *where, threads or _threads(), features=features)
    library = BACKENDS["numpy" if case.device == "cpu" and not isinstance(problem, BlackBox) else "torch"]
    return bind(Request(case, library, results, max_bytes, calls), kernel, audit)


def _at_least_one(**numbers: Any) -> None:
    for name, value in numbers.items():
        if value is not None and not isinstance(value, int | np.integer):
            raise TypeError(f"{name} is {value!r}; it must be a whole number of at least 1, or None")
        if value is not None and not value >= 1:
            raise ValueError(f"{name} is {value}; it must be at least 1, or None")


def gradient(
    problem: Problem,
    theta: Array,
    x: Array,
    y: Tree,
    *,
    sample_weight: Array | None = None,
    kernel: Way = None,
    results: Results = None,
    max_bytes: int | None = None,
) -> Any:
    """Gradient of the mean loss over the batch, of theta's shape: (1/n) sum_i d loss_i / d theta.

    Args:
        problem: What is differentiated.
        theta: Parameters, `(d+1,)` with the intercept first; softmax `(d+1, classes)`.
        x: Features, `(n, d)` or `(n,)`; n at least 1.
        y: Targets, `(n,)`; integers and truth values stand for numbers of x's dtype.
        sample_weight: Factor of each sample's loss, `(n,)`, for regressions; the mean still divides by n.
        kernel: Force a way (`numpy.broadcast`), key or Kernel instead of the fastest.
        results: A results file that decides which is fastest.
        max_bytes: Peak memory allowed, the result included, in bytes: another kernel is chosen, or for modules the
            samples are gone through in chunks.

    Raises:
        ValueError: Shapes that do not fit, n = 0, a target without a loss (class 3 of 3, the first one is named), an
            unknown kernel, one that cannot do this, or too little memory.
        TypeError: Not arrays, integers, or arrays of different libraries, dtypes or devices.
        Disagreement: The kernel computes this problem wrongly.
    """
    if sample_weight is not None:
        problem, y = _weigh(problem, y, sample_weight)
    return _bound("gradient", problem, theta, x, y, kernel, results, max_bytes)(theta, x, y)


def per_sample(
    problem: Problem,
    theta: Array,
    x: Array,
    y: Tree,
    *,
    sample_weight: Array | None = None,
    out: Array | None = None,
    kernel: Way = None,
    results: Results = None,
    max_bytes: int | None = None,
) -> Any:
    """Gradients one by one, each of its own sample's unscaled loss: `(n, *theta.shape)`.

    Args and Raises as `gradient`; `out` is memory of that shape and dtype to write into and return. n may be 0.
    """
    if sample_weight is not None:
        problem, y = _weigh(problem, y, sample_weight)
    return _bound("per_sample", problem, theta, x, y, kernel, results, max_bytes)(theta, x, y, out)


def norms(
    problem: Problem,
    theta: Array,
    x: Array,
    y: Tree,
    *,
    sample_weight: Array | None = None,
    out: Array | None = None,
    kernel: Way = None,
    results: Results = None,
    max_bytes: int | None = None,
) -> Any:
    """Euclidean norm over all parameters of each sample's gradient: `(n,)`.

    Args and Raises as `gradient`; `out` is memory of that shape and dtype to write into and return. n may be 0.
    """
    if sample_weight is not None:
        problem, y = _weigh(problem, y, sample_weight)
    return _bound("norms", problem, theta, x, y, kernel, results, max_bytes)(theta, x, y, out)


def moments(
    problem: Problem,
    theta: Array,
    x: Array,
    y: Tree,
    *,
    sample_weight: Array | None = None,
    kernel: Way = None,
    results: Results = None,
    max_bytes: int | None = None,
) -> Moments:
    """Mean and biased variance (divided by n) over samples of the per-sample gradients, each of theta's shape.

    Args and Raises as `gradient`.
    """
    if sample_weight is not None:
        problem, y = _weigh(problem, y, sample_weight)
    result: Moments = _bound("moments", problem, theta, x, y, kernel, results, max_bytes)(theta, x, y)
    return result


def clipped_sum(
    problem: Problem,
    theta: Array,
    x: Array,
    y: Tree,
    max_norm: float = 1.0,
    *,
    sample_weight: Array | None = None,
    kernel: Way = None,
    results: Results = None,
    max_bytes: int | None = None,
) -> Any:
    """Sum over samples of g_i min(1, max_norm / |g_i|) (Abadi et al. 2016, the sum of DP-SGD before its noise).

    Args and Raises as `gradient`, and a ValueError unless `max_norm` is positive. The sum over n = 0 is zero.
    """
    if sample_weight is not None:
        problem, y = _weigh(problem, y, sample_weight)
    bound = _bound("clipped_sum", problem, theta, x, y, kernel, results, max_bytes)
    try:
        positive = float(max_norm) > 0
    except (TypeError, ValueError):
        positive = False
    if not positive:
        raise ValueError(f"max_norm is {max_norm}; it must be positive (float('inf') clips nothing)")
    return bound(theta, x, y, max_norm=max_norm)


def _weigh(problem: Problem, y: Array, sample_weight: Array) -> tuple[Problem, Weighted]:
    """The weighted problem, and the targets with their weights."""
    if not isinstance(problem, Regression):
        raise TypeError(f"sample_weight is for regressions; put weights into the loss of a {type(problem).__name__}")
    if isinstance(y, tuple):
        raise TypeError("y holds sample weights already; leave out sample_weight=, or pass the targets alone as y")
    return _weighted(problem), Weighted(y, sample_weight)


@lru_cache
def _weighted(problem: Regression) -> Regression:
    return replace(problem, weighted=True)


_BOUND: dict[tuple[Any, ...], Bound] = {}


def _bound(
    name: str, problem: Problem, theta: Array, x: Array, y: Tree, kernel: Way, results: Results, max_bytes: int | None
) -> Bound:
    """The bound kernel for these arrays. Everything that is validated is part of the key, so a hit needs no more."""
    if getattr(problem, "is_black_box", False):
        return _of_module(name, problem, theta, x, y, kernel, results, max_bytes)
    key: tuple[Any, ...]
    try:
        key = (name, problem, kernel, max_bytes, type(theta), type(x), type(y), theta.shape, x.shape, y.shape,
               theta.dtype, x.dtype, y.dtype, theta.device, x.device, y.device)  # fmt: skip
    except AttributeError:
        validate_problem(problem)
        trees = problem.as_inputs(theta, x, y)
        key = (name, problem, kernel, max_bytes, structure(trees), *map(_signature, leaves(trees)))
    try:
        if results is None:
            return _BOUND[key]
    except (KeyError, TypeError):
        pass
    _at_least_one(max_bytes=max_bytes)
    bound = bind(_request(problem, name, (theta, x, y), None, results, max_bytes), kernel)
    if results is None:
        if len(_BOUND) >= MOST_BOUND:
            _BOUND.clear()
        _BOUND[key] = bound
    return bound


def _of_module(
    name: str, problem: Any, theta: Tree, x: Tree, y: Tree, kernel: Way, results: Results, max_bytes: int | None
) -> Any:
    """What computes a quantity of a module, kept with the problem; sizes and states are looked at when it is called."""
    key = (name, kernel, results, max_bytes)
    known = problem.cache.setdefault("wanted", {})
    found = known.pop(key, None)
    if found is None:
        _at_least_one(max_bytes=max_bytes)
        found = wanted(_request(problem, name, (theta, x, y), None, results, max_bytes), kernel)
        while len(known) >= MOST_WANTED:  # the one that was used the longest time ago makes room
            known.pop(next(iter(known)), None)
    known[key] = found
    return found


def _signature(array: Any) -> tuple[Any, ...]:
    return (type(array), *(getattr(array, name, None) for name in ("shape", "dtype", "device")))


def forget() -> None:
    """Forget the kernels bound so far, so that wisdom saved since then counts."""
    _BOUND.clear()
    forget_choices()


def _request(
    problem: Problem,
    name: str | Quantity,
    arrays: tuple[Array, Array, Tree],
    threads: int | None,
    results: Results,
    max_bytes: int | None = None,
    calls: int | None = None,
) -> Request:
    asked = _quantity(name)
    try:
        theta, x, y = arrays
    except (TypeError, ValueError):
        raise TypeError(f"like is a {type(arrays).__name__} that is not three arrays; pass (theta, x, y)") from None
    validate_problem(problem)
    with problem.lock() if isinstance(problem, BlackBox) else nullcontext():
        theta, x, y = problem.as_inputs(theta, x, y)
        library = validate_inputs(problem, theta, x, y)
    if count(y) == 0 and asked.averages:
        raise ValueError(f"x has n = 0 samples; {asked} divides by n and needs at least 1")
    case = Case(
        problem,
        asked,
        n=max(count(y), 1),
        dtype=dtype_of(leaves(theta)[0]),
        device=device_of(leaves(theta)[0]),
        threads=threads or _threads(),
        layout=_layout(library, x),
        features=max(1, problem.features(x)),
    )
    if isinstance(problem, BlackBox):
        return Request(case, library, results, max_bytes, calls, arrays=(theta, x, y))
    return Request(case, library, results, max_bytes, calls, needs_conversion(problem, theta, x, y))


def _layout(library: Backend, x: Array) -> str:
    return "F" if library.name == "numpy" and x.ndim > 1 and x.flags.f_contiguous and not x.flags.c_contiguous else "C"


def _threads() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
