"""Inner products of gradients: with directions, with each other, with random matrices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Unpack, overload

from gradkernels.dispatch.request import ComputeOptions, KernelLike, NameGlobs, ResultsPath
from gradkernels.fastest.compute import compute
from gradkernels.problems import Problem

if TYPE_CHECKING:
    from torch import Tensor

    from gradkernels.dispatch.request import A, FeatureArray, OwnOrGiven, TargetArray
    from gradkernels.problems.module.module_problem import ModuleProblem
    from gradkernels.tree import ArrayProtocol, LazyArrayProtocol


@overload
def inner(
    problem: ModuleProblem, theta: OwnOrGiven, x: object, y: object, v: object, **options: Unpack[ComputeOptions]
) -> Tensor: ...
@overload
def inner(
    problem: Problem,
    theta: ArrayProtocol,
    x: LazyArrayProtocol,
    y: LazyArrayProtocol,
    v: object,
    **options: Unpack[ComputeOptions],
) -> Any: ...
@overload
def inner(
    problem: Problem, theta: A, x: FeatureArray, y: TargetArray, v: object, **options: Unpack[ComputeOptions]
) -> A: ...
def inner(
    problem: Problem,
    theta: Any,
    x: Any,
    y: Any,
    v: Any,
    *,
    parameters: NameGlobs = None,
    sample_weight: Any = None,
    kernel: KernelLike = None,
    results: ResultsPath = None,
    max_bytes: int | None = None,
) -> Any:
    """Compute the inner product of each sample's gradient with a direction: `(n,)`, or `(n, K)` with K directions.

    Args:
        problem: What is differentiated.
        theta: Parameters, `(d+1,)` with the intercept first; of a module a dict by name, or None for its own.
        x: Features, `(n, d)` or `(n,)`; of a module its inputs, samples first. n may be 0.
        y: Targets, samples first; integers and truth values stand for numbers of x's dtype.
        v: Of theta's structure and shapes, or each array with an axis of K directions in front.
        parameters: Names or globs of the only parameters that are asked about; see `gradient`.
        sample_weight: Factor of each sample's loss, `(n,)`, for regressions.
        kernel: A way (`numpy.broadcast`), key or Kernel to take instead of the fastest.
        results: A results file that decides which is fastest.
        max_bytes: Peak memory allowed in bytes, the result included; see `gradient`.
    """
    chosen = kernel, results, max_bytes
    return compute("inner", problem, (theta, x, y), chosen, sample_weight, parameters=parameters, v=v)


@overload
def gram(
    problem: ModuleProblem,
    theta: OwnOrGiven,
    x: object,
    y: object,
    *,
    other: object = None,
    **options: Unpack[ComputeOptions],
) -> Tensor: ...
@overload
def gram(
    problem: Problem,
    theta: A,
    x: FeatureArray,
    y: TargetArray,
    *,
    other: object = None,
    **options: Unpack[ComputeOptions],
) -> A: ...
@overload
def gram(
    problem: Problem,
    theta: Any,
    x: object,
    y: object,
    *,
    by: str | Mapping[str, str | Sequence[str]],
    other: object = None,
    **options: Unpack[ComputeOptions],
) -> dict[str, Any]: ...
def gram(
    problem: Problem,
    theta: Any,
    x: Any,
    y: Any,
    *,
    other: Any = None,
    parameters: NameGlobs = None,
    by: Any = None,
    sample_weight: Any = None,
    kernel: KernelLike = None,
    results: ResultsPath = None,
    max_bytes: int | None = None,
) -> Any:
    """Compute g_i . g_j for each two samples, `(n, n)`, or g_i . h_j with other samples, `(n, m)`; or each by group.

    Args:
        problem: What is differentiated.
        theta: Parameters, `(d+1,)` with the intercept first; of a module a dict by name, or None for its own.
        x: Features, `(n, d)` or `(n,)`; of a module its inputs, samples first. n may be 0.
        y: Targets, samples first; integers and truth values stand for numbers of x's dtype.
        other: `(x, y)`, the samples of h at the same theta.
        parameters: Names or globs of the only parameters that are asked about; see `gradient`.
        by: `"parameter"` for the products over each parameter, or `{"group": ["glob", ...]}` for those over groups.
        sample_weight: Factor of each sample's loss, `(n,)`, for regressions.
        kernel: A way (`numpy.broadcast`), key or Kernel to take instead of the fastest.
        results: A results file that decides which is fastest.
        max_bytes: Peak memory allowed in bytes, the result included; see `gradient`.
    """
    name, chosen = "gram" if by is None else "gram_by", (kernel, results, max_bytes)
    return compute(name, problem, (theta, x, y), chosen, sample_weight, parameters=parameters, other=other, by=by)


@overload
def project(
    problem: ModuleProblem,
    theta: OwnOrGiven,
    x: object,
    y: object,
    *,
    size: int = 512,
    seed: int = 0,
    kind: str = "gaussian",
    **options: Unpack[ComputeOptions],
) -> Tensor: ...
@overload
def project(
    problem: Problem,
    theta: ArrayProtocol,
    x: LazyArrayProtocol,
    y: LazyArrayProtocol,
    *,
    size: int = 512,
    seed: int = 0,
    kind: str = "gaussian",
    **options: Unpack[ComputeOptions],
) -> Any: ...
@overload
def project(
    problem: Problem,
    theta: A,
    x: FeatureArray,
    y: TargetArray,
    *,
    size: int = 512,
    seed: int = 0,
    kind: str = "gaussian",
    **options: Unpack[ComputeOptions],
) -> A: ...
def project(
    problem: Problem,
    theta: Any,
    x: Any,
    y: Any,
    *,
    size: int = 512,
    seed: int = 0,
    kind: str = "gaussian",
    parameters: NameGlobs = None,
    sample_weight: Any = None,
    kernel: KernelLike = None,
    results: ResultsPath = None,
    max_bytes: int | None = None,
) -> Any:
    """Multiply each sample's gradient by a random matrix `(size, P)` that keeps inner products on average: `(n, size)`.

    Args:
        problem: What is differentiated.
        theta: Parameters, `(d+1,)` with the intercept first; of a module a dict by name, or None for its own.
        x: Features, `(n, d)` or `(n,)`; of a module its inputs, samples first. n may be 0.
        y: Targets, samples first; integers and truth values stand for numbers of x's dtype.
        size: Dimensions of the result.
        seed: With the parameters' names and shapes it decides the matrix, in every batch and process.
        kind: `gaussian`, entries N(0, 1/size), or `factored`, from both sides for weights with two axes or more.
        parameters: Names or globs of the only parameters that are asked about; see `gradient`.
        sample_weight: Factor of each sample's loss, `(n,)`, for regressions.
        kernel: A way (`numpy.broadcast`), key or Kernel to take instead of the fastest.
        results: A results file that decides which is fastest.
        max_bytes: Peak memory allowed in bytes, the result included; see `gradient`.
    """
    chosen = kernel, results, max_bytes
    return compute(
        "project", problem, (theta, x, y), chosen, sample_weight, parameters=parameters, size=size, seed=seed, kind=kind
    )
