"""The kernels bound so far, found again for inputs of the same kind: what a call costs beyond its kernel."""

from __future__ import annotations

from math import log2
from typing import Any

from gradkernels.dispatch import history
from gradkernels.dispatch.bind import BoundKernel, bind, dispatcher_for
from gradkernels.dispatch.request import (
    Criteria,
    KernelLike,
    ResultsPath,
    Size,
    make_request,
    request_like,
    signature,
)
from gradkernels.kernel import Kernel
from gradkernels.memory.shared_passes import SharedPasses, batch_key, current_passes
from gradkernels.problems import Problem
from gradkernels.problems.frames import is_frame
from gradkernels.scale.lazy_arrays import is_lazy
from gradkernels.tree import Tree, leaves, structure
from gradkernels.validate import validate_problem

MOST_BOUND = 4096
MOST_DISPATCHERS = 64
"""Of a module, that differ in what is asked for; a limit of memory may be another at each step."""

Arrays = tuple[Tree, Tree, Tree]
Given = tuple[KernelLike, ResultsPath, int | None]
"""The first fields of `Criteria`, as a call gives them: making one at each call would cost as much as the rest."""

NOTHING_GIVEN: Given = (None, None, None)
SHARED: Given = ("torch.hooks", None, None)
"""The kernel by which computations share a pass, where one would be chosen freely."""

SIZES_PER_OCTAVE = 8
"""Kernels are chosen at so many sizes between n and 2 n: times at sizes between them differ by less than a tenth."""

_BOUND: dict[tuple[Any, ...], BoundKernel[Any]] = {}
_OF_ABOUT_THAT_SIZE: dict[tuple[Any, ...], BoundKernel[Any]] = {}


def bound_kernel(name: str, problem: Problem, arrays: Arrays, given: Given) -> Any:
    """Return the kernel bound for arrays like these; everything that is validated is part of the key of a regression's.

    Args:
        name: Of the quantity.
        problem: What is differentiated.
        arrays: `(theta, x, y)`; of a module theta may be None.
        given: `(kernel, results, max_bytes)`.
    """
    if getattr(problem, "is_black_box", False):  # cheaper than isinstance, and told of what is no problem too
        return _of_module(name, problem, arrays, given)
    theta, x, y = arrays
    trees = arrays
    key: tuple[Any, ...]
    try:
        key = (name, problem, given, type(theta), type(x), type(y), theta.shape, x.shape, y.shape,
               theta.dtype, x.dtype, y.dtype, theta.device, x.device, y.device)  # fmt: skip
    except AttributeError:
        validate_problem(problem)
        if (other := _of_other_arrays(name, problem, arrays, given)) is not None:
            return other
        trees = problem.as_inputs(theta, x, y)
        key = (name, problem, given, structure(trees), *map(signature, leaves(trees)))
    try:
        return _BOUND[key]
    except (KeyError, TypeError):
        pass
    kind = _kind(name, problem, trees, given)
    try:
        bound = _OF_ABOUT_THAT_SIZE.get(kind) if kind else None
    except TypeError:  # a problem without a hash, say, which is refused in words
        bound = None
    if bound is None:
        bound = bind(request_like(problem, name, arrays, Criteria(*given)))
    if given[1] is None:  # a results file may change
        _keep(_BOUND, key, bound)
    if kind is not None:
        _keep(_OF_ABOUT_THAT_SIZE, kind, bound)
    return bound


def _of_module(name: str, problem: Any, arrays: Arrays, given: Given) -> Any:
    """Return what computes a module's quantity: by a pass that is shared, in a scope of such, unless more is asked."""
    if given == NOTHING_GIVEN and (passes := current_passes()) is not None:
        return _sharing(name, problem, arrays, passes)
    return _dispatcher(name, problem, arrays, given)


def _sharing(name: str, problem: Any, arrays: Arrays, passes: SharedPasses) -> Any:
    """Return a compute that shares a pass with others of the scope; by itself, as ever, where it cannot."""

    def call(theta: Tree, x: Tree, y: Tree, *arguments: Any, **options: Any) -> Any:
        try:
            with passes.expecting(batch_key(leaves(problem.prepared(x, y)))):
                return _dispatcher(name, problem, arrays, SHARED)(theta, x, y, *arguments, **options)
        except Exception:  # whatever it is: the call by itself finds another kernel, or says what is wrong
            passes.clear()
            return _dispatcher(name, problem, arrays, NOTHING_GIVEN)(theta, x, y, *arguments, **options)

    return call


def _of_other_arrays(name: str, problem: Problem, arrays: Arrays, given: Given) -> Any:
    """Return what computes dask's arrays, or those in DataFrames; None where there are neither."""
    if any(map(is_lazy, leaves(arrays))):
        return _in_blocks(name, problem, given)
    if any(map(is_frame, leaves(arrays))):
        trees = problem.as_inputs(*arrays)
        # Bound for the numpy arrays in them, and called with those whatever it is given.
        return _given(bound_kernel(name, problem, trees, given), trees)
    return None


def _in_blocks(name: str, problem: Problem, given: Given) -> Any:
    """Return what computes dask arrays block by block: each in the process that has it, by a kernel found here."""
    from gradkernels.scale.lazy_results import lazy_call

    def choose(local: str, n: int, features: int, dtype: str) -> Kernel:
        return bind(make_request(problem, local, Criteria(*given, threads=1), None, Size(n, features, dtype))).kernel

    return lazy_call(name, problem, choose, bound_kernel)


def _given(bound: Any, trees: Arrays) -> Any:
    return lambda theta, x, y, *more, **named: bound(*trees, *more, **named)


def _keep(known: dict[tuple[Any, ...], BoundKernel[Any]], key: tuple[Any, ...], bound: BoundKernel[Any]) -> None:
    if len(known) >= MOST_BOUND:
        known.clear()
    known[key] = bound


def _kind(name: str, problem: Problem, trees: Arrays, given: Given) -> tuple[Any, ...] | None:
    """Return for what a kernel can be used again, which computes any number of samples; all but that was validated.

    None where each number is looked at: under a limit of memory, and where the arrays have not the same one.
    """
    theta, *samples = leaves(trees)
    counts = {array.shape[0] if getattr(array, "shape", ()) else 0 for array in samples}
    if given[1] is not None or given[2] is not None or len(counts) > 1 or 0 in counts:
        return None
    traits = [(kind, shape[1:], *others) for kind, shape, *others in map(signature, samples)]
    layout = getattr(getattr(samples[0], "flags", None), "fnc", False)
    return (name, problem, given, structure(trees), signature(theta), *traits, layout,
            round(SIZES_PER_OCTAVE * log2(counts.pop())))  # fmt: skip


def _dispatcher(name: str, problem: Any, arrays: Arrays, given: Given) -> Any:
    """Return the dispatcher of a module's quantity, kept with the problem; it looks at sizes and states when called."""
    key = (name, given)
    known = problem.cache.setdefault("dispatchers", {})
    found = known.pop(key, None)
    if found is None:
        found = dispatcher_for(request_like(problem, name, arrays, Criteria(*given)))
        while len(known) >= MOST_DISPATCHERS:  # the one that was used the longest time ago makes room
            known.pop(next(iter(known)), None)
    known[key] = found
    return found


def forget_choices() -> None:
    """Forget the kernels bound so far and their choices, so that wisdom saved since then counts."""
    _BOUND.clear()
    _OF_ABOUT_THAT_SIZE.clear()
    history.clear_choices()
