"""Import the winner: the five quantities, each computed by the fastest kernel that is proven and installed.

`gradient(problem, theta, x, y)` and its siblings find the kernel once for each combination of problem, shapes and
dtypes and keep it, so that a call costs about a microsecond more than the kernel; `gk.fastest` hands out the kernel
itself. A result is an array of the library of theta and x; for a `ModuleProblem`, what has theta's structure is a dict
of tensors by parameter name. All five raise as `gradient`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack, overload

from gradkernels.dispatch.bound_kernels import bound_kernel
from gradkernels.dispatch.fastest_kernel import fastest as fastest
from gradkernels.dispatch.keywords import require_positive, with_weights
from gradkernels.dispatch.request import Into, KernelLike, Options, ResultsPath
from gradkernels.problems import Problem
from gradkernels.quantity import Moments

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from gradkernels.dispatch.request import A, F, FeatureArray, OwnOrGiven, TargetArray, Tensors
    from gradkernels.problems.module.module_problem import ModuleProblem
    from gradkernels.tree import FrameProtocol


@overload
def gradient(
    problem: ModuleProblem, theta: OwnOrGiven, x: object, y: object, **options: Unpack[Options]
) -> Tensors: ...
@overload
def gradient(problem: Problem, theta: A, x: FeatureArray, y: TargetArray, **options: Unpack[Options]) -> A: ...
def gradient(
    problem: Problem,
    theta: Any,
    x: Any,
    y: Any,
    *,
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
    sample_weight: Any = None,
    out: Any = None,
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
        sample_weight: Factor of each sample's loss, `(n,)`, for regressions.
        out: Memory of the result's shape and dtype to write it into and return.
        kernel: A way (`numpy.broadcast`), key or Kernel to take instead of the fastest.
        results: A results file that decides which is fastest.
        max_bytes: Peak memory allowed in bytes, the result included; see `gradient`.
    """
    if sample_weight is not None:
        problem, y = with_weights(problem, y, sample_weight)
    return bound_kernel("per_sample", problem, (theta, x, y), (kernel, results, max_bytes))(theta, x, y, out)


@overload
def norms(
    problem: ModuleProblem, theta: OwnOrGiven, x: object, y: object, **options: Unpack[Into[Tensor]]
) -> Tensor: ...
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
    sample_weight: Any = None,
    out: Any = None,
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
        sample_weight: Factor of each sample's loss, `(n,)`, for regressions.
        out: Memory of the result's shape and dtype to write it into and return.
        kernel: A way (`numpy.broadcast`), key or Kernel to take instead of the fastest.
        results: A results file that decides which is fastest.
        max_bytes: Peak memory allowed in bytes, the result included; see `gradient`.
    """
    if sample_weight is not None:
        problem, y = with_weights(problem, y, sample_weight)
    return bound_kernel("norms", problem, (theta, x, y), (kernel, results, max_bytes))(theta, x, y, out)


@overload
def moments(
    problem: ModuleProblem, theta: OwnOrGiven, x: object, y: object, **options: Unpack[Options]
) -> Moments[Tensors]: ...
@overload
def moments(problem: Problem, theta: A, x: FeatureArray, y: TargetArray, **options: Unpack[Options]) -> Moments[A]: ...
def moments(
    problem: Problem,
    theta: Any,
    x: Any,
    y: Any,
    *,
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
        sample_weight: Factor of each sample's loss, `(n,)`, for regressions.
        kernel: A way (`numpy.broadcast`), key or Kernel to take instead of the fastest.
        results: A results file that decides which is fastest.
        max_bytes: Peak memory allowed in bytes, the result included; see `gradient`.
    """
    if sample_weight is not None:
        problem, y = with_weights(problem, y, sample_weight)
    result: Moments[Any] = bound_kernel("moments", problem, (theta, x, y), (kernel, results, max_bytes))(theta, x, y)
    return result


@overload
def clipped_sum(
    problem: ModuleProblem, theta: OwnOrGiven, x: object, y: object, max_norm: float = 1.0, **options: Unpack[Options]
) -> Tensors: ...
@overload
def clipped_sum(
    problem: Problem, theta: A, x: FeatureArray, y: TargetArray, max_norm: float = 1.0, **options: Unpack[Options]
) -> A: ...
def clipped_sum(
    problem: Problem,
    theta: Any,
    x: Any,
    y: Any,
    max_norm: float = 1.0,
    *,
    sample_weight: Any = None,
    kernel: KernelLike = None,
    results: ResultsPath = None,
    max_bytes: int | None = None,
) -> Any:
    """Sum g_i min(1, max_norm / |g_i|) over samples (Abadi et al. 2016, the sum of DP-SGD before its noise).

    Args:
        problem: What is differentiated.
        theta: Parameters, `(d+1,)` with the intercept first; of a module a dict by name, or None for its own.
        x: Features, `(n, d)` or `(n,)`; of a module its inputs, samples first. The sum over n = 0 is zero.
        y: Targets, samples first; integers and truth values stand for numbers of x's dtype.
        max_norm: Length that each sample's gradient is cut to, positive; infinity cuts nothing.
        sample_weight: Factor of each sample's loss, `(n,)`, for regressions.
        kernel: A way (`numpy.broadcast`), key or Kernel to take instead of the fastest.
        results: A results file that decides which is fastest.
        max_bytes: Peak memory allowed in bytes, the result included; see `gradient`.
    """
    if sample_weight is not None:
        problem, y = with_weights(problem, y, sample_weight)
    bound = bound_kernel("clipped_sum", problem, (theta, x, y), (kernel, results, max_bytes))
    require_positive(max_norm)
    return bound(theta, x, y, max_norm=max_norm)
