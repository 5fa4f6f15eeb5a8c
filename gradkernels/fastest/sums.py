"""Sums over samples, each computed by the fastest kernel that is proven and installed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack, overload

from gradkernels.dispatch.request import ComputeOptions, KernelLike, NameGlobs, ResultsPath
from gradkernels.fastest.compute import compute
from gradkernels.problems import Problem

if TYPE_CHECKING:
    from torch import Tensor

    from gradkernels.dispatch.request import A, FeatureArray, OwnOrGiven, TargetArray, Tensors
    from gradkernels.problems.module.module_problem import ModuleProblem
    from gradkernels.tree import ArrayProtocol, LazyArrayProtocol


@overload
def weighted_sum(
    problem: ModuleProblem, theta: OwnOrGiven, x: object, y: object, weights: object, **options: Unpack[ComputeOptions]
) -> Tensors: ...
@overload
def weighted_sum(
    problem: Problem,
    theta: ArrayProtocol,
    x: LazyArrayProtocol,
    y: LazyArrayProtocol,
    weights: object,
    **options: Unpack[ComputeOptions],
) -> Any: ...
@overload
def weighted_sum(
    problem: Problem, theta: A, x: FeatureArray, y: TargetArray, weights: object, **options: Unpack[ComputeOptions]
) -> A: ...
def weighted_sum(
    problem: Problem,
    theta: Any,
    x: Any,
    y: Any,
    weights: Any,
    *,
    parameters: NameGlobs = None,
    sample_weight: Any = None,
    kernel: KernelLike = None,
    results: ResultsPath = None,
    max_bytes: int | None = None,
) -> Any:
    """Sum w_i g_i over samples: theta's structure; with K weightings, K of them in front.

    Args:
        problem: What is differentiated.
        theta: Parameters, `(d+1,)` with the intercept first; of a module a dict by name, or None for its own.
        x: Features, `(n, d)` or `(n,)`; of a module its inputs, samples first. n may be 0.
        y: Targets, samples first; integers and truth values stand for numbers of x's dtype.
        weights: `(n,)`, or `(n, K)` for K sums; one of NaN makes all of its sum NaN.
        parameters: Names or globs of the only parameters that are asked about; see `gradient`.
        sample_weight: Factor of each sample's loss, `(n,)`, for regressions.
        kernel: A way (`numpy.broadcast`), key or Kernel to take instead of the fastest.
        results: A results file that decides which is fastest.
        max_bytes: Peak memory allowed in bytes, the result included; see `gradient`.
    """
    chosen = kernel, results, max_bytes
    return compute(
        "weighted_sum", problem, (theta, x, y), chosen, sample_weight, parameters=parameters, weights=weights
    )


@overload
def group_sums(
    problem: ModuleProblem,
    theta: OwnOrGiven,
    x: object,
    y: object,
    groups: object,
    count: int,
    **options: Unpack[ComputeOptions],
) -> Tensors: ...
@overload
def group_sums(
    problem: Problem,
    theta: ArrayProtocol,
    x: LazyArrayProtocol,
    y: LazyArrayProtocol,
    groups: object,
    count: int,
    **options: Unpack[ComputeOptions],
) -> Any: ...
@overload
def group_sums(
    problem: Problem,
    theta: A,
    x: FeatureArray,
    y: TargetArray,
    groups: object,
    count: int,
    **options: Unpack[ComputeOptions],
) -> A: ...
def group_sums(
    problem: Problem,
    theta: Any,
    x: Any,
    y: Any,
    groups: Any,
    count: int,
    *,
    parameters: NameGlobs = None,
    sample_weight: Any = None,
    kernel: KernelLike = None,
    results: ResultsPath = None,
    max_bytes: int | None = None,
) -> Any:
    """Sum the gradients of each group: theta's structure, with an axis of `count` groups in front.

    Args:
        problem: What is differentiated.
        theta: Parameters, `(d+1,)` with the intercept first; of a module a dict by name, or None for its own.
        x: Features, `(n, d)` or `(n,)`; of a module its inputs, samples first. n may be 0.
        y: Targets, samples first; integers and truth values stand for numbers of x's dtype.
        groups: Number of each sample's group, `(n,)` whole numbers from 0 on, below count.
        count: How many groups there are; those without samples have sums of zero.
        parameters: Names or globs of the only parameters that are asked about; see `gradient`.
        sample_weight: Factor of each sample's loss, `(n,)`, for regressions.
        kernel: A way (`numpy.broadcast`), key or Kernel to take instead of the fastest.
        results: A results file that decides which is fastest.
        max_bytes: Peak memory allowed in bytes, the result included; see `gradient`.
    """
    chosen = kernel, results, max_bytes
    return compute(
        "group_sums", problem, (theta, x, y), chosen, sample_weight, parameters=parameters, groups=groups, count=count
    )


@overload
def outer(
    problem: ModuleProblem,
    theta: OwnOrGiven,
    x: object,
    y: object,
    *,
    groups: object = None,
    **options: Unpack[ComputeOptions],
) -> Tensor: ...
@overload
def outer(
    problem: Problem,
    theta: ArrayProtocol,
    x: LazyArrayProtocol,
    y: LazyArrayProtocol,
    *,
    groups: object = None,
    **options: Unpack[ComputeOptions],
) -> Any: ...
@overload
def outer(
    problem: Problem,
    theta: A,
    x: FeatureArray,
    y: TargetArray,
    *,
    groups: object = None,
    **options: Unpack[ComputeOptions],
) -> A: ...
def outer(
    problem: Problem,
    theta: Any,
    x: Any,
    y: Any,
    *,
    groups: Any = None,
    parameters: NameGlobs = None,
    sample_weight: Any = None,
    kernel: KernelLike = None,
    results: ResultsPath = None,
    max_bytes: int | None = None,
) -> Any:
    """Sum the outer products g_i g_i^T, or those of the sums of each group: `(P, P)`, P the number of parameters.

    Args:
        problem: What is differentiated.
        theta: Parameters, `(d+1,)` with the intercept first; of a module a dict by name, or None for its own.
        x: Features, `(n, d)` or `(n,)`; of a module its inputs, samples first. n may be 0.
        y: Targets, samples first; integers and truth values stand for numbers of x's dtype.
        groups: Number of each sample's group, `(n,)` whole numbers; None for each sample its own.
        parameters: Names or globs of the only parameters that are asked about; see `gradient`.
        sample_weight: Factor of each sample's loss, `(n,)`, for regressions.
        kernel: A way (`numpy.broadcast`), key or Kernel to take instead of the fastest.
        results: A results file that decides which is fastest.
        max_bytes: Peak memory allowed in bytes, the result included; see `gradient`.
    """
    chosen = kernel, results, max_bytes
    return compute("outer", problem, (theta, x, y), chosen, sample_weight, parameters=parameters, groups=groups)
