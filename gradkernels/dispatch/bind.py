"""From a kernel to something to call: proven for the problem, in the caller's arrays, with its keyword.

A `BoundKernel` has no dispatch left; everything that could be decided before the call is decided here.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from gradkernels.backend import BACKENDS, Array, Backend, backend_of
from gradkernels.case import Case
from gradkernels.check import endure, prove
from gradkernels.dispatch.dispatcher import ModuleDispatcher
from gradkernels.dispatch.functions.dispatcher import FunctionDispatcher
from gradkernels.dispatch.keywords import with_keywords, with_options
from gradkernels.dispatch.request import KernelLike, R, Request
from gradkernels.dispatch.select import Choice, choose, explain
from gradkernels.kernel import Compute, Kernel
from gradkernels.key import Key
from gradkernels.names import unknown
from gradkernels.problems import ExampleProblem, FunctionProblem, Problem
from gradkernels.problems.regression.conversion import with_conversion
from gradkernels.quantity import Quantity
from gradkernels.registry import kernel as kernel_by_key
from gradkernels.registry import kernels
from gradkernels.tree import Tree, each

PROOF_SAMPLES = 8
PROOF_FEATURES = 64  # the reference takes one evaluation of the loss per parameter


class BoundKernel(partial[R]):
    """A kernel bound to a problem: `k(theta, x, y)`, with no dispatch, and a look at targets and options alone.

    It also takes the quantity's own keywords: `out=` (per_sample, norms), `max_norm=` (clipped_sum), `v=` (inner) and
    so on. A partial, because calling one costs less than calling a method.

    Attributes:
        kernel: The Kernel behind it.
        request: What it was chosen for.
        choice: How it was chosen; None when the caller named it.
    """

    kernel: Kernel
    request: Request
    choice: Choice | None

    if TYPE_CHECKING:

        def __call__(self, theta: Any, x: Any, y: Any, out: Any = None, **options: Any) -> R:
            """Compute the quantity, in the caller's arrays."""

    def __repr__(self) -> str:
        return f"<{self.kernel.key} bound to {self.request.case.problem.name}>"

    @property
    def why(self) -> str:
        """Why this kernel: what it costs, what the others would, and from which measurement that is known."""
        if self.choice is None:
            return f"{self.kernel.key}, because kernel= asked for it"
        return explain(self.request, self.choice)


def bind(request: Request, audited: bool = True) -> BoundKernel[Any]:
    """Return the kernel for a request, chosen or the one that the caller names, proven and ready to call.

    Args:
        request: What is to be computed.
        audited: Of a module, whether calls are audited, and what does not fit is computed by other kernels.

    Raises:
        Disagreement: The kernel is wrong on this kind of problem.
        ValueError: Nothing can do the request, or no kernel has that name.
    """
    if isinstance(request.case.problem, ExampleProblem):
        return _bind_black_box(request, audited)
    return _bind_regression(request)


def _bind_regression(request: Request) -> BoundKernel[Any]:
    """Prove the kernel on data of its own, and convert the caller's where they have to be."""
    case = request.case
    choice = choose(request) if request.criteria.kernel is None else None
    kernel = choice.kernel if choice else _requested(case, request.criteria.kernel)
    compute = _proven(kernel, case.problem, case.dtype, case.device, min(case.features, PROOF_FEATURES))
    own = kernel.backend.host is request.library
    compute = with_keywords(compute if own else _converted(compute, kernel.backend, request), kernel, own)
    converted = with_conversion(compute, case.problem, request.foreign)
    bound = BoundKernel(with_options(converted, case.quantity, case.problem))
    bound.kernel, bound.request, bound.choice = kernel, request, choice
    return bound


class BoundModuleKernel(BoundKernel[R]):
    """A kernel bound to a module or JAX function, and those that take its place where it does not fit.

    What is said of it is true of its last call, or of the data that it was made for.
    """

    @property
    def dispatcher(self) -> ModuleDispatcher | FunctionDispatcher:
        """What it calls."""
        found: ModuleDispatcher | FunctionDispatcher = self.func  # type: ignore[assignment]
        return found

    @property
    def kernel(self) -> Kernel:  # type: ignore[override]
        """What computed last, or would."""
        assert self.dispatcher.kernel is not None
        return self.dispatcher.kernel

    @property
    def choice(self) -> Choice | None:  # type: ignore[override]
        """How it was chosen; None when the caller named it."""
        return self.dispatcher.choice

    @property
    def why(self) -> str:
        """Why the kernel that computed last did: which others could not, and what they cost."""
        return self.dispatcher.why


def _bind_black_box(request: Request, audited: bool) -> BoundKernel[Any]:
    """Prove the kernel on the request's data, or on the problem's example."""
    case = request.case
    library = BACKENDS[case.problem.libraries[0]]
    theta, x, y = request.arrays or library.put(case.for_proof().draw(), case.device)
    dispatcher = dispatcher_for(request)
    dispatcher.prepare(theta, x, y)
    bound: BoundKernel[Any]
    if audited:
        bound = BoundModuleKernel(dispatcher)
    else:
        bound = BoundKernel(dispatcher.bare())
        assert dispatcher.kernel is not None
        bound.kernel, bound.choice = dispatcher.kernel, dispatcher.choice
    # The caller's arrays are the caller's to keep.
    bound.request = replace(request, arrays=None)
    return bound


def dispatcher_for(request: Request) -> ModuleDispatcher | FunctionDispatcher:
    """Return what computes a request for a module or a JAX function; nothing is chosen or proven yet."""
    case, asked = request.case, request.criteria.kernel
    forced = None if asked is None else _requested(case, asked)
    criteria = replace(request.criteria, kernel=None, threads=case.threads)
    if isinstance(case.problem, FunctionProblem):
        return FunctionDispatcher(case.problem, case.quantity, forced, criteria)
    return ModuleDispatcher(case.problem, case.quantity, forced, criteria)


def _requested(case: Case, asked: KernelLike) -> Kernel:
    """Return the kernel that a caller names; a ValueError if there is none, or it cannot do the case."""
    kernel = asked if isinstance(asked, Kernel) else _find(case.quantity, str(asked))
    if reasons := kernel.unsupported(case):
        raise ValueError(f"{kernel.key} cannot do this: {'; '.join(reasons)}")
    return kernel


def _find(quantity: Quantity, name: str) -> Kernel:
    """Return the kernel of a way or key; `torch.vmap[chunk=512]` also means `torch.vmap+[chunk=512]`."""
    key = Key.parse(name)
    if key.quantity != quantity.name:
        key = Key.parse(f"{name}.{quantity.name}")
    known = {kernel.way for kernel in kernels(quantity=quantity)}
    for one in (key, replace(key, composed=True)):
        if one.plain.way in known:
            return kernel_by_key(str(one))
    raise ValueError(unknown(f"kernel for {quantity}", name, sorted(known)))


@lru_cache(maxsize=256)
def _proven(kernel: Kernel, problem: Problem, dtype: str, device: str, features: int) -> Compute:
    """Build the kernel for `problem` and prove it there: measurements were of other problems."""
    compute = kernel.backend.arrays.in_own_dtype(kernel.build(problem), device)
    case = Case(problem, kernel.quantity, PROOF_SAMPLES, dtype, device, features=features)
    prove(kernel, compute, case)
    endure(kernel, compute, case)
    return compute


def _converted(compute: Compute, backend: Backend, request: Request) -> Compute:
    """Wrap `compute` for arrays of another library: in and out through numpy, which torch shares memory with."""
    library, device = request.library, request.case.device

    def moved(value: Any) -> Any:
        return backend.put(library.get(value), device) if backend_of(value) is library else value

    def converted(theta: Array, x: Array, y: Tree, **options: Any) -> Any:
        arrays = backend.put(library.get((theta, x, y)), device)
        options = {name: each(moved, value) for name, value in options.items()}
        return library.put(backend.get(compute(*arrays, **options)), device)

    return converted
