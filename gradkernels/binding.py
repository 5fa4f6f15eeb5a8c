"""From a kernel to something to call: proven for the problem, in the caller's arrays, with its keyword.

A `Bound` has no dispatch left; everything that could be decided before the call is decided here.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Any

from gradkernels.backend import Array, Backend
from gradkernels.case import Case
from gradkernels.check import prove
from gradkernels.choice import Choice, Request, choose, explain
from gradkernels.kernel import Compute, Kernel
from gradkernels.names import unknown
from gradkernels.problems import Problem
from gradkernels.quantity import Quantity
from gradkernels.registry import kernel as kernel_by_key
from gradkernels.registry import kernels
from gradkernels.tree import Tree
from gradkernels.validate import validate_out

Way = str | Kernel | None
PROOF_SAMPLES = 8
PROOF_FEATURES = 64  # the reference takes one evaluation of the loss per parameter


class Bound(partial[Any]):
    """A kernel bound to a problem: `k(theta, x, y)`, with no dispatch and no validation of the inputs.

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
        return explain(self.request, self.choice)


def bind(request: Request, forced: Way) -> Bound:
    """The kernel for a request, chosen or the one that the caller names, proven and ready to call.

    Raises:
        Disagreement: The kernel is wrong on this kind of problem.
        ValueError: Nothing can do the request, or no kernel has that name.
    """
    choice = choose(request) if forced is None else None
    kernel = choice.kernel if choice else _forced(request.case, forced)
    case = request.case
    compute = _proven(kernel, case.problem, case.dtype, case.device, min(case.features, PROOF_FEATURES))
    if kernel.backend.host is not request.library:
        compute = _converted(compute, kernel.backend, request)
    bound = Bound(_with_keywords(compute, kernel, request))
    bound.kernel, bound.request, bound.choice = kernel, request, choice
    return bound


def _with_keywords(compute: Compute, kernel: Kernel, request: Request) -> Compute:
    """`compute`, taking the keyword of its quantity."""
    if kernel.quantity.writable:
        return _with_out(compute, kernel, request)
    return _with_max_norm(compute) if "max_norm" in kernel.quantity.options else compute


def _with_max_norm(compute: Compute) -> Compute:
    def call(theta: Array, x: Array, y: Tree, max_norm: float = 1.0) -> Array:
        # A numpy scalar, such as a median of norms, would turn float32 results into float64.
        return compute(theta, x, y, max_norm=float(max_norm))

    return call


def _with_out(compute: Compute, kernel: Kernel, request: Request) -> Compute:
    """`compute`, taking `out=`: written to at once, or copied to."""
    at_once = kernel.out and kernel.backend.host is request.library

    def call(theta: Array, x: Array, y: Tree, out: Array | None = None) -> Array:
        if out is None:
            return compute(theta, x, y)
        validate_out(kernel.quantity, theta, x, y, out)
        if at_once:
            return compute(theta, x, y, out=out)
        out[...] = compute(theta, x, y)
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


def _converted(compute: Compute, backend: Backend, request: Request) -> Compute:
    """`compute` for arrays of another library: in and out through numpy, which torch shares memory with."""
    library, device = request.library, request.case.device

    def converted(theta: Array, x: Array, y: Tree, **options: Any) -> Any:
        arrays = backend.put(library.get((theta, x, y)), device)
        return library.put(backend.get(compute(*arrays, **options)), device)

    return converted
