"""Import the winner: the five quantities, each computed by the fastest kernel that is proven and installed.

`gradient(problem, theta, x, y)` and its siblings find the kernel once for each combination of problem, shapes
and dtypes and keep it, so that a call costs about a microsecond more than the kernel. `fastest` hands out the
kernel itself.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

from gradkernels.backend import Array
from gradkernels.dispatch import pickling  # noqa: F401  so that bound kernels can be pickled
from gradkernels.dispatch.bind import BoundKernel, bind
from gradkernels.dispatch.bound_kernels import bound_kernel
from gradkernels.dispatch.request import Criteria, KernelLike, ResultsFile, request_like, request_of_size
from gradkernels.problems import Problem, Regression, Weighted
from gradkernels.quantity import Moments, Quantity
from gradkernels.tree import Tree


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
    results: ResultsFile = None,
    max_bytes: int | None = None,
    calls: int | None = None,
    kernel: KernelLike = None,
    audit: bool = True,
) -> BoundKernel:
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
    criteria = Criteria(kernel, results, max_bytes, calls, threads)
    if (n is None) == (like is None):
        raise ValueError(f"give either n= or like=(theta, x, y), not {'neither' if n is None else 'both'}")
    if like is not None:
        return bind(request_like(problem, quantity, like, criteria), audit)
    assert n is not None
    size = request_of_size(problem, quantity, criteria, n=n, features=features, dtype=dtype, device=device)
    return bind(size, audit)


def gradient(
    problem: Problem,
    theta: Array,
    x: Array,
    y: Tree,
    *,
    sample_weight: Array | None = None,
    kernel: KernelLike = None,
    results: ResultsFile = None,
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
    return bound_kernel("gradient", problem, (theta, x, y), (kernel, results, max_bytes))(theta, x, y)


def per_sample(
    problem: Problem,
    theta: Array,
    x: Array,
    y: Tree,
    *,
    sample_weight: Array | None = None,
    out: Array | None = None,
    kernel: KernelLike = None,
    results: ResultsFile = None,
    max_bytes: int | None = None,
) -> Any:
    """Gradients one by one, each of its own sample's unscaled loss: `(n, *theta.shape)`.

    Args and Raises as `gradient`; `out` is memory of that shape and dtype to write into and return. n may be 0.
    """
    if sample_weight is not None:
        problem, y = _weigh(problem, y, sample_weight)
    return bound_kernel("per_sample", problem, (theta, x, y), (kernel, results, max_bytes))(theta, x, y, out)


def norms(
    problem: Problem,
    theta: Array,
    x: Array,
    y: Tree,
    *,
    sample_weight: Array | None = None,
    out: Array | None = None,
    kernel: KernelLike = None,
    results: ResultsFile = None,
    max_bytes: int | None = None,
) -> Any:
    """Euclidean norm over all parameters of each sample's gradient: `(n,)`.

    Args and Raises as `gradient`; `out` is memory of that shape and dtype to write into and return. n may be 0.
    """
    if sample_weight is not None:
        problem, y = _weigh(problem, y, sample_weight)
    return bound_kernel("norms", problem, (theta, x, y), (kernel, results, max_bytes))(theta, x, y, out)


def moments(
    problem: Problem,
    theta: Array,
    x: Array,
    y: Tree,
    *,
    sample_weight: Array | None = None,
    kernel: KernelLike = None,
    results: ResultsFile = None,
    max_bytes: int | None = None,
) -> Moments:
    """Mean and biased variance (divided by n) over samples of the per-sample gradients, each of theta's shape.

    Args and Raises as `gradient`.
    """
    if sample_weight is not None:
        problem, y = _weigh(problem, y, sample_weight)
    result: Moments = bound_kernel("moments", problem, (theta, x, y), (kernel, results, max_bytes))(theta, x, y)
    return result


def clipped_sum(
    problem: Problem,
    theta: Array,
    x: Array,
    y: Tree,
    max_norm: float = 1.0,
    *,
    sample_weight: Array | None = None,
    kernel: KernelLike = None,
    results: ResultsFile = None,
    max_bytes: int | None = None,
) -> Any:
    """Sum over samples of g_i min(1, max_norm / |g_i|) (Abadi et al. 2016, the sum of DP-SGD before its noise).

    Args and Raises as `gradient`, and a ValueError unless `max_norm` is positive. The sum over n = 0 is zero.
    """
    if sample_weight is not None:
        problem, y = _weigh(problem, y, sample_weight)
    bound = bound_kernel("clipped_sum", problem, (theta, x, y), (kernel, results, max_bytes))
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
