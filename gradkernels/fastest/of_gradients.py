"""Gradients, their norms and moments, each computed by the fastest kernel that is proven and installed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack, overload

from gradkernels.dispatch.bound_kernels import bound_kernel
from gradkernels.dispatch.keywords import with_names, with_weights
from gradkernels.dispatch.request import ComputeOptions, Into, KernelLike, NameGlobs, ResultsPath
from gradkernels.fastest.compute import compute
from gradkernels.fastest.flat_rows import flat_row_arrays
from gradkernels.problems import Problem
from gradkernels.quantity import Moments

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from gradkernels.dispatch.request import A, F, FeatureArray, OwnOrGiven, TargetArray, Tensors
    from gradkernels.problems.module.module_problem import ModuleProblem
    from gradkernels.tree import ArrayProtocol, FrameProtocol, LazyArrayProtocol


@overload
def gradient(
    problem: ModuleProblem, theta: OwnOrGiven, x: object, y: object, **options: Unpack[ComputeOptions]
) -> Tensors: ...
@overload
def gradient(
    problem: Problem,
    theta: ArrayProtocol,
    x: LazyArrayProtocol,
    y: LazyArrayProtocol,
    **options: Unpack[ComputeOptions],
) -> Any: ...
@overload
def gradient(problem: Problem, theta: A, x: FeatureArray, y: TargetArray, **options: Unpack[ComputeOptions]) -> A: ...
def gradient(
    problem: Problem,
    theta: Any,
    x: Any,
    y: Any,
    *,
    parameters: NameGlobs = None,
    sample_weight: Any = None,
    kernel: KernelLike = None,
    results: ResultsPath = None,
    max_bytes: int | None = None,
) -> Any:
    """Compute the gradient of the mean loss over the batch, of theta's shape: (1/n) sum_i d loss_i / d theta.

    Args:
        problem: What is differentiated.
        theta: Parameters, `(d+1,)` with the intercept first; of a module a dict by name, or None for its own.
        x: Features, `(n, d)` or `(n,)`; of a module its inputs, samples first. n is at least 1.
        y: Targets, samples first; integers and truth values stand for numbers of x's dtype.
        parameters: Names or globs of a module's parameters that alone are differentiated by, `["encoder.*"]`; the
            others enter the forward pass as ever, and theta may lack them. None for all.
        sample_weight: Factor of each sample's loss, `(n,)`, for regressions; the mean still divides by n.
        kernel: A way (`numpy.broadcast`), key or Kernel to take instead of the fastest.
        results: A results file that decides which is fastest.
        max_bytes: Peak memory allowed in bytes, the result included: another kernel is chosen, or for modules the
            samples are gone through in chunks.

    Raises:
        ValueError: Shapes that do not fit, n = 0, a target without a loss (class 3 of 3, the first one is named), an
            unknown kernel, one that cannot do this, or too little memory.
        TypeError: Not arrays, integers, or arrays of different libraries, dtypes or devices.
        Disagreement: The kernel computes this problem wrongly.
    """
    if parameters is not None:
        problem = with_names(problem, parameters)
    if sample_weight is not None:
        problem, y = with_weights(problem, y, sample_weight)
    return bound_kernel("gradient", problem, (theta, x, y), (kernel, results, max_bytes))(theta, x, y)


@overload
def per_sample(
    problem: ModuleProblem, theta: OwnOrGiven, x: object, y: object, **options: Unpack[Into[Tensors]]
) -> Tensors: ...
@overload
def per_sample(
    problem: Problem,
    theta: ArrayProtocol,
    x: LazyArrayProtocol,
    y: LazyArrayProtocol,
    **options: Unpack[ComputeOptions],
) -> Any: ...
@overload
def per_sample(
    problem: Problem,
    theta: NDArray[F],
    x: NDArray[F] | FrameProtocol,
    y: TargetArray,
    **options: Unpack[Into[NDArray[F]]],
) -> NDArray[F]: ...
@overload
def per_sample(problem: Problem, theta: A, x: A, y: TargetArray, **options: Unpack[Into[A]]) -> A: ...
def per_sample(
    problem: Problem,
    theta: Any,
    x: Any,
    y: Any,
    *,
    parameters: NameGlobs = None,
    sample_weight: Any = None,
    out: Any = None,
    flat: bool = False,
    kernel: KernelLike = None,
    results: ResultsPath = None,
    max_bytes: int | None = None,
) -> Any:
    """Compute the gradients one by one, each of its own sample's unscaled loss: `(n, *theta.shape)`.

    Args:
        problem: What is differentiated.
        theta: Parameters, `(d+1,)` with the intercept first; of a module a dict by name, or None for its own.
        x: Features, `(n, d)` or `(n,)`; of a module its inputs, samples first. n may be 0.
        y: Targets, samples first; integers and truth values stand for numbers of x's dtype.
        parameters: Names or globs of the only parameters that are asked about; see `gradient`.
        sample_weight: Factor of each sample's loss, `(n,)`, for regressions.
        out: Memory of the result's shape and dtype to write it into and return.
        flat: Whether all parameters are in one array `(n, P)`, side by side as `gk.flat` says.
        kernel: A way (`numpy.broadcast`), key or Kernel to take instead of the fastest.
        results: A results file that decides which is fastest.
        max_bytes: Peak memory allowed in bytes, the result included; see `gradient`.
    """
    if parameters is not None:
        problem = with_names(problem, parameters)
    if sample_weight is not None:
        problem, y = with_weights(problem, y, sample_weight)
    bound = bound_kernel("per_sample", problem, (theta, x, y), (kernel, results, max_bytes))
    return flat_row_arrays(bound, problem, (theta, x, y), out) if flat else bound(theta, x, y, out)


@overload
def norms(
    problem: ModuleProblem, theta: OwnOrGiven, x: object, y: object, **options: Unpack[Into[Tensor]]
) -> Tensor: ...
@overload
def norms(
    problem: Problem,
    theta: ArrayProtocol,
    x: LazyArrayProtocol,
    y: LazyArrayProtocol,
    **options: Unpack[ComputeOptions],
) -> Any: ...
@overload
def norms(
    problem: Problem,
    theta: NDArray[F],
    x: NDArray[F] | FrameProtocol,
    y: TargetArray,
    **options: Unpack[Into[NDArray[F]]],
) -> NDArray[F]: ...
@overload
def norms(problem: Problem, theta: A, x: A, y: TargetArray, **options: Unpack[Into[A]]) -> A: ...
def norms(
    problem: Problem,
    theta: Any,
    x: Any,
    y: Any,
    *,
    parameters: NameGlobs = None,
    sample_weight: Any = None,
    out: Any = None,
    by: Any = None,
    kernel: KernelLike = None,
    results: ResultsPath = None,
    max_bytes: int | None = None,
) -> Any:
    """Compute the Euclidean norm over all parameters of each sample's gradient: `(n,)`.

    Args:
        problem: What is differentiated.
        theta: Parameters, `(d+1,)` with the intercept first; of a module a dict by name, or None for its own.
        x: Features, `(n, d)` or `(n,)`; of a module its inputs, samples first. n may be 0.
        y: Targets, samples first; integers and truth values stand for numbers of x's dtype.
        parameters: Names or globs of the only parameters that are asked about; see `gradient`.
        sample_weight: Factor of each sample's loss, `(n,)`, for regressions.
        out: Memory of the result's shape and dtype to write it into and return.
        by: `"parameter"` for the norms over each parameter, or `{"group": ["glob", ...]}` for those over groups of
            them: a dict of `(n,)`, which takes no out.
        kernel: A way (`numpy.broadcast`), key or Kernel to take instead of the fastest.
        results: A results file that decides which is fastest.
        max_bytes: Peak memory allowed in bytes, the result included; see `gradient`.
    """
    if parameters is not None:
        problem = with_names(problem, parameters)
    if by is not None:
        if out is not None:
            raise TypeError("norms with by= has a result of several arrays; leave out out=")
        return compute("norms_by", problem, (theta, x, y), (kernel, results, max_bytes), sample_weight, by=by)
    if sample_weight is not None:
        problem, y = with_weights(problem, y, sample_weight)
    return bound_kernel("norms", problem, (theta, x, y), (kernel, results, max_bytes))(theta, x, y, out)


@overload
def moments(
    problem: ModuleProblem, theta: OwnOrGiven, x: object, y: object, **options: Unpack[ComputeOptions]
) -> Moments[Tensors]: ...
@overload
def moments(
    problem: Problem,
    theta: ArrayProtocol,
    x: LazyArrayProtocol,
    y: LazyArrayProtocol,
    **options: Unpack[ComputeOptions],
) -> Moments[Any]: ...
@overload
def moments(
    problem: Problem, theta: A, x: FeatureArray, y: TargetArray, **options: Unpack[ComputeOptions]
) -> Moments[A]: ...
def moments(
    problem: Problem,
    theta: Any,
    x: Any,
    y: Any,
    *,
    parameters: NameGlobs = None,
    sample_weight: Any = None,
    kernel: KernelLike = None,
    results: ResultsPath = None,
    max_bytes: int | None = None,
) -> Moments[Any]:
    """Compute mean and biased variance (divided by n) of the per-sample gradients, each of theta's shape.

    Args:
        problem: What is differentiated.
        theta: Parameters, `(d+1,)` with the intercept first; of a module a dict by name, or None for its own.
        x: Features, `(n, d)` or `(n,)`; of a module its inputs, samples first. n is at least 1.
        y: Targets, samples first; integers and truth values stand for numbers of x's dtype.
        parameters: Names or globs of the only parameters that are asked about; see `gradient`.
        sample_weight: Factor of each sample's loss, `(n,)`, for regressions.
        kernel: A way (`numpy.broadcast`), key or Kernel to take instead of the fastest.
        results: A results file that decides which is fastest.
        max_bytes: Peak memory allowed in bytes, the result included; see `gradient`.
    """
    if parameters is not None:
        problem = with_names(problem, parameters)
    if sample_weight is not None:
        problem, y = with_weights(problem, y, sample_weight)
    result: Moments[Any] = bound_kernel("moments", problem, (theta, x, y), (kernel, results, max_bytes))(theta, x, y)
    return result
