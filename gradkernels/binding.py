"""From a kernel to something to call: proven for the problem, in the caller's arrays, with its keyword.

A `Bound` has no dispatch left; everything that could be decided before the call is decided here.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

from gradkernels.backend import Array, Backend
from gradkernels.case import Case
from gradkernels.check import prove
from gradkernels.choice import Choice, Request, choose, explain
from gradkernels.entry import bare, entered
from gradkernels.footprint import TooSmall, within
from gradkernels.kernel import Compute, Kernel
from gradkernels.memory import sealed, store
from gradkernels.names import unknown
from gradkernels.problems import Problem
from gradkernels.quantity import Quantity
from gradkernels.registry import kernel as kernel_by_key
from gradkernels.registry import kernels
from gradkernels.sample import Sample
from gradkernels.tree import Tree, count, each, leaves
from gradkernels.validate import validate_out

Way = str | Kernel | None
PROOF_SAMPLES = 8
PROOF_FEATURES = 64  # the reference takes one evaluation of the loss per parameter


class Bound(partial[Any]):
    """A kernel bound to a problem: `k(theta, x, y)`, with no dispatch and no validation but that of targets.

    It also takes the quantity's own keyword: `out=` (per_sample, norms) or `max_norm=` (clipped_sum). A partial,
    because calling one costs less than calling a method.

    Attributes:
        kernel: The Kernel behind it.
        request: What it was chosen for.
        choice: How it was chosen; None when the caller named it.
    """

    kernel: Kernel
    request: Request
    choice: Choice | None

    def __repr__(self) -> str:
        return f"<{self.kernel.key} bound to {self.request.case.problem.name}>"

    @property
    def why(self) -> str:
        """Why this kernel: what it costs, what the others would, and from which measurement that is known."""
        if self.choice is None:
            return f"{self.kernel.key}, because kernel= asked for it"
        said = explain(self.request, self.choice)
        if self.kernel != self.choice.kernel:
            said += f"\n  in chunks, {self.kernel.key}, to stay within max_bytes={self.request.max_bytes}"
        return said


def bind(request: Request, forced: Way) -> Bound:
    """The kernel for a request, chosen or the one that the caller names, proven and ready to call.

    Raises:
        Disagreement: The kernel is wrong on this kind of problem.
        ValueError: Nothing can do the request, or no kernel has that name.
    """
    with request.case.problem.turn():
        kernel, compute, choice = _chosen(request, forced)
    if kernel.backend.host is not request.library:
        compute = _converted(compute, kernel.backend, request)
    bound = Bound(entered(_with_keywords(compute, kernel, request), request.case.problem, request.foreign))
    # The caller's arrays are the caller's to keep.
    bound.kernel, bound.request, bound.choice = kernel, replace(request, arrays=None), choice
    return bound


def _chosen(request: Request, forced: Way) -> tuple[Kernel, Compute, Choice | None]:
    """The kernel, proven. For an opaque problem one that fails is set aside, unless the caller names it."""
    case, failed = request.case, dict[Kernel, str]()
    sample = Sample.of(request) if case.problem.opaque else None
    while True:
        choice = choose(request, failed) if forced is None else None
        kernel = choice.kernel if choice else _forced(case, forced)
        if sample is None:
            features = min(case.features, PROOF_FEATURES)
            return kernel, _proven(kernel, case.problem, case.dtype, case.device, features), choice
        try:
            fitting = _within(kernel, request)
            compute, fault = _tried(fitting, case.problem, case.problem.stamp(), case.dtype, case.device, sample)
        except TooSmall as error:
            compute, fault = None, error
        if compute is not None:
            return fitting, compute, choice
        assert fault is not None
        if choice is None:
            raise fault
        failed[kernel] = str(fault) if isinstance(fault, TooSmall) else f"{type(fault).__name__}: {_first_line(fault)}"


def _within(kernel: Kernel, request: Request) -> Kernel:
    """The kernel in chunks that keep it within the caller's memory limit."""
    case, arrays = request.case, request.arrays
    if request.max_bytes is None:
        return kernel
    if arrays is None:
        arrays = kernel.backend.put(case.provable().draw(), case.device)
    return within(kernel, case, arrays, request.max_bytes) if count(arrays[2]) else kernel


def _first_line(fault: Exception) -> str:
    return next(iter(str(fault).splitlines()), "")


def _with_keywords(compute: Compute, kernel: Kernel, request: Request) -> Compute:
    """`compute`, taking the keyword of its quantity, and None for the parameters that a problem has itself."""
    if kernel.quantity.writable:
        compute = _with_out(compute, kernel, request)
    elif "max_norm" in kernel.quantity.options:
        compute = _with_max_norm(compute)
    return _with_own_theta(compute, request.case.problem) if request.case.problem.opaque else compute


def _with_own_theta(compute: Compute, problem: Problem) -> Compute:
    turn = problem.turn()

    def call(theta: Tree, x: Tree, y: Tree, *arguments: Any, **options: Any) -> Any:
        x, y = problem.prepared(x, y)
        # A module holds the parameters of one call at a time, its own between calls.
        with turn:
            return compute(*problem.ready(theta, x, y), *arguments, **options)

    return call


def _with_max_norm(compute: Compute) -> Compute:
    def call(theta: Array, x: Array, y: Tree, max_norm: float = 1.0) -> Array:
        # A numpy scalar, such as a median of norms, would turn float32 results into float64.
        return compute(theta, x, y, max_norm=float(max_norm))

    return call


def _with_out(compute: Compute, kernel: Kernel, request: Request) -> Compute:
    """`compute`, taking `out=`: written to at once, or copied to."""
    at_once = kernel.out and kernel.backend.host is request.library

    def call(theta: Tree, x: Tree, y: Tree, out: Tree | None = None) -> Tree:
        if out is None:
            return compute(theta, x, y)
        validate_out(kernel.quantity, theta, x, y, out)
        if at_once and not any(map(sealed, leaves(out))):
            compute(theta, x, y, out=bare(out))
            return out
        each(lambda part, result: store(part, slice(None), result), out, compute(theta, x, y))
        return out

    return call


def _forced(case: Case, asked: Way) -> Kernel:
    kernel = asked if isinstance(asked, Kernel) else _named(case.quantity, str(asked))
    if reasons := kernel.unsupported(case):
        raise ValueError(f"{kernel.key} cannot do this: {'; '.join(reasons)}")
    return kernel


def _named(quantity: Quantity, name: str) -> Kernel:
    """The kernel of a way or key; `torch.vmap[chunk=512]` also means `torch.vmap+[chunk=512]`."""
    suffix = f".{quantity.name}"
    way, bracket, settings = name.removesuffix(suffix).partition("[")
    known = {kernel.way for kernel in kernels(quantity=quantity)}
    for plain in (way, f"{way}+"):
        if plain in known:
            return kernel_by_key(f"{plain}{bracket}{settings}{suffix}")
    raise ValueError(unknown(f"kernel for {quantity}", name, sorted(known)))


@lru_cache(maxsize=256)
def _proven(kernel: Kernel, problem: Problem, dtype: str, device: str, features: int) -> Compute:
    """The kernel built for `problem`, once it has passed the proof there: measurements were of other problems."""
    compute = kernel.build(problem)
    prove(kernel, compute, Case(problem, kernel.quantity, PROOF_SAMPLES, dtype, device, features=features))
    return compute


@lru_cache(maxsize=256)
def _tried(
    kernel: Kernel, problem: Problem, stamp: Hashable, dtype: str, device: str, sample: Sample
) -> tuple[Compute | None, Exception | None]:
    """The kernel built for `problem`, or why it cannot be proven on the sample.

    Raises:
        ValueError: The model, not the kernel, is to blame.
    """
    if sample.inputs is None:
        return kernel.build(problem), None
    reference = sample.reference
    try:
        compute, case = kernel.build(problem), replace(sample.case, quantity=kernel.quantity)
        proven = compute if case.problem is problem else kernel.build(case.problem)
        prove(kernel, proven, case, sample.inputs, reference)
    except Exception as fault:  # whatever it is: another kernel may do
        return None, fault.with_traceback(None)
    return compute, None


def _converted(compute: Compute, backend: Backend, request: Request) -> Compute:
    """`compute` for arrays of another library: in and out through numpy, which torch shares memory with."""
    library, device = request.library, request.case.device

    def converted(theta: Array, x: Array, y: Tree, **options: Any) -> Any:
        arrays = backend.put(library.get((theta, x, y)), device)
        return library.put(backend.get(compute(*arrays, **options)), device)

    return converted
