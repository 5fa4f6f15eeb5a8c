"""Hand out the fastest kernel itself, bound to a problem."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeVar, Unpack, overload

from gradkernels.dispatch import pickling  # noqa: F401  so that bound kernels can be pickled
from gradkernels.dispatch.bind import BoundKernel, bind
from gradkernels.dispatch.keywords import with_names
from gradkernels.dispatch.request import Criteria, KernelLike, NameGlobs, ResultsPath, Size, Wishes, make_request
from gradkernels.problems import Problem
from gradkernels.quantity import Moments, Quantity
from gradkernels.scale.lazy_arrays import is_lazy
from gradkernels.tree import leaves

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from gradkernels.dispatch.request import A, F, OwnOrGiven, Tensors
    from gradkernels.problems.module.module_problem import ModuleProblem

    ModuleLike = tuple[OwnOrGiven, Any, Any] | None

Structured = Literal["gradient", "per_sample", "clipped_sum"]
"""Quantities with theta's structure."""

ArrayValued = Literal["gradient", "per_sample", "clipped_sum", "norms"]
"""Quantities that are one array for a regression."""

T = TypeVar("T")
Like = tuple[T, T, Any]


@overload
def fastest(
    problem: ModuleProblem, quantity: Structured, *, like: ModuleLike = None, **options: Unpack[Wishes]
) -> BoundKernel[Tensors]: ...
@overload
def fastest(
    problem: ModuleProblem, quantity: Literal["norms"], *, like: ModuleLike = None, **options: Unpack[Wishes]
) -> BoundKernel[Tensor]: ...
@overload
def fastest(
    problem: ModuleProblem, quantity: Literal["moments"], *, like: ModuleLike = None, **options: Unpack[Wishes]
) -> BoundKernel[Moments[Tensors]]: ...
@overload
def fastest(
    problem: Problem, quantity: ArrayValued, *, like: Like[NDArray[F]], **options: Unpack[Wishes]
) -> BoundKernel[NDArray[F]]: ...
@overload
def fastest(
    problem: Problem, quantity: Literal["moments"], *, like: Like[NDArray[F]], **options: Unpack[Wishes]
) -> BoundKernel[Moments[NDArray[F]]]: ...
@overload
def fastest(problem: Problem, quantity: ArrayValued, *, like: Like[A], **options: Unpack[Wishes]) -> BoundKernel[A]: ...
@overload
def fastest(
    problem: Problem, quantity: Literal["moments"], *, like: Like[A], **options: Unpack[Wishes]
) -> BoundKernel[Moments[A]]: ...
@overload
def fastest(
    problem: Problem, quantity: str | Quantity, *, like: Like[Any] | None = None, **options: Unpack[Wishes]
) -> BoundKernel[Any]: ...
def fastest(
    problem: Problem,
    quantity: str | Quantity,
    *,
    n: int | None = None,
    like: tuple[Any, Any, Any] | None = None,
    features: int = 1,
    dtype: str | None = None,
    device: str | None = None,
    threads: int | None = None,
    results: ResultsPath = None,
    max_bytes: int | None = None,
    calls: int | None = None,
    kernel: KernelLike = None,
    audit: bool = True,
    parameters: NameGlobs = None,
) -> BoundKernel[Any]:
    """Bind the fastest kernel for a problem, a quantity and a size, ready to call; its `why` explains the choice.

    Errors are those of `gk.gradient`, and a ValueError unless one of `n` and `like` is given.

    Args:
        problem: What is differentiated.
        quantity: `gradient`, `per_sample`, `norms`, `moments` or `clipped_sum`.
        n: Number of samples, of numpy arrays; of tensors on other devices and for modules, then proven on `example`.
        like: `(theta, x, y)` to read sizes, dtype, device and library off, instead of `n`; as for `gradient`.
        features: d, with `n`.
        dtype: With `n`; None for float64, for a module its own.
        device: With `n`; None for the CPU, for a module its own.
        threads: That the kernel may use; None for as many as this process may use.
        results: A results file to decide by, instead of this machine's wisdom or the shipped table.
        max_bytes: Peak memory allowed, in bytes.
        calls: How often it will be called, to weigh the first call of compiled kernels; None for many.
        kernel: Take this way (`numpy.broadcast`), key or Kernel instead of the fastest.
        audit: Whether a module's calls are audited (`gk.audit`) and fall back on other kernels; False for one alone.
        parameters: Names or globs of the only parameters that are asked about; see `gk.gradient`.
    """
    criteria = Criteria(kernel, results, max_bytes, calls, threads)
    size = None if n is None else Size(n, features, dtype, device)
    return bind(make_request(with_names(problem, parameters), quantity, criteria, _at_hand(like), size), audit)


def _at_hand(like: Any) -> Any:
    """Return arrays as they are; raise a TypeError where some are dask's."""
    if isinstance(like, tuple | list) and any(map(is_lazy, leaves(tuple(like)))):
        raise TypeError("like has dask arrays, and a kernel computes one of their blocks: call gk with them, which "
                        "chooses it, or pass n=, the rows of a block")  # fmt: skip
    return like
