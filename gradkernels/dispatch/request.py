"""What is to be computed, and what the caller asks for besides: the input of every choice."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypedDict, TypeVar

import numpy as np

from gradkernels.backend import BACKENDS, Array, Backend
from gradkernels.case import Case
from gradkernels.kernel import Kernel
from gradkernels.problems import BlackBox, ExampleProblem, Problem
from gradkernels.problems.frames import is_frame
from gradkernels.problems.regression.conversion import needs_conversion
from gradkernels.quantity import Quantity, quantity
from gradkernels.tree import ArrayProtocol, FrameProtocol, Tree, count, leaves
from gradkernels.validate import device_of, dtype_of, validate_asked, validate_count, validate_inputs

KernelLike = str | Kernel | None
"""A way such as `numpy.broadcast`, a key or a Kernel to take; None for the fastest."""

NameGlobs = str | Sequence[str] | None
"""Names or globs of a module's parameters, or one of them; None for all."""

ResultsPath = str | os.PathLike[str] | None
"""A CSV of measurements that decides which kernel is fastest; None for what this machine and the package know."""


if TYPE_CHECKING:
    from torch import Tensor

    from gradkernels.problems import Weighted

    Tensors = dict[str, Tensor]
    OwnOrGiven = Mapping[str, Tensor] | None
    TargetArray = ArrayProtocol | Weighted | FrameProtocol
    FeatureArray = ArrayProtocol | FrameProtocol

A = TypeVar("A", bound=ArrayProtocol)
F = TypeVar("F", bound=np.floating[Any])
R = TypeVar("R")


class ComputeOptions(TypedDict, total=False):
    """Keyword arguments of every function that computes a quantity, as type checkers see them; see `gk.gradient`."""

    parameters: NameGlobs
    sample_weight: ArrayProtocol | FrameProtocol | None
    kernel: KernelLike
    results: ResultsPath
    max_bytes: int | None


class Into(ComputeOptions, Generic[R], total=False):
    """Those, and memory for the result."""

    out: R | None


class ChunkOptions(TypedDict, Generic[R], total=False):
    """Keyword arguments of `gk.per_sample_chunks`."""

    chunk: int | None
    max_bytes: int | None
    out: R | None
    kernel: KernelLike
    parameters: NameGlobs


class Wishes(TypedDict, total=False):
    """Keyword arguments of `gk.fastest` besides `like`."""

    n: int | None
    features: int
    dtype: str | None
    device: str | None
    threads: int | None
    results: ResultsPath
    max_bytes: int | None
    calls: int | None
    kernel: KernelLike
    audit: bool
    parameters: NameGlobs


@dataclass(frozen=True)
class Criteria:
    """What a kernel is chosen by, besides what it computes.

    Attributes:
        kernel: The one that the caller names.
        results: The results file to decide by.
        max_bytes: Peak memory allowed, in bytes; None for any.
        calls: How often the kernel will be called; None for many, so that set-up does not count.
        threads: That it may use; None for as many as this process may use.
    """

    kernel: KernelLike = None
    results: ResultsPath = None
    max_bytes: int | None = None
    calls: int | None = None
    threads: int | None = None

    def __post_init__(self) -> None:
        """Refuse numbers that nothing could be chosen by."""
        for name in ("threads", "calls", "max_bytes"):
            validate_count(name, getattr(self, name))


@dataclass(frozen=True)
class Size:
    """What stands for arrays that are not there yet.

    Attributes:
        n: Number of samples.
        features: d, the number of columns of x; a module tells its own.
        dtype: Of inputs and result; None for float64, or a module's own.
        device: Where it is computed; None for the CPU, or a module's own.
    """

    n: int
    features: int = 1
    dtype: str | None = None
    device: str | None = None


@dataclass(frozen=True)
class Request:
    """What is to be computed, and what the caller cares about besides speed.

    Attributes:
        case: The computation.
        library: Whose arrays the caller has; converting to another library's is part of a kernel's cost.
        criteria: What the kernel is chosen by.
        foreign: Whether the caller's arrays have to be converted before any kernel takes them.
        arrays: The caller's `(theta, x, y)`, where they are needed to prove a kernel on.
    """

    case: Case
    library: Backend
    criteria: Criteria = Criteria()
    foreign: bool = False
    arrays: tuple[Tree, Tree, Tree] | None = field(default=None, compare=False, repr=False)


def make_request(
    problem: Problem,
    asked: str | Quantity,
    criteria: Criteria,
    like: tuple[Array, Array, Tree] | None,
    size: Size | None,
) -> Request:
    """Make a request of the caller's arrays, or of a size alone.

    Args:
        problem: What is differentiated.
        asked: The quantity, or its name.
        criteria: What the kernel is chosen by.
        like: `(theta, x, y)`.
        size: Instead of arrays.

    Raises:
        ValueError: Neither or both are given, or as `request_like`.
        TypeError: As `request_like`.
    """
    if like is not None and size is None:
        return request_like(problem, asked, like, criteria)
    if size is None or like is not None:
        raise ValueError(f"give either n= or like=(theta, x, y), not {'neither' if size is None else 'both'}")
    return _of_size(problem, asked, criteria, size)


def request_like(
    problem: Problem, asked: str | Quantity, arrays: tuple[Array, Array, Tree], criteria: Criteria
) -> Request:
    """Read a request off the caller's arrays.

    Args:
        problem: What is differentiated.
        asked: The quantity, or its name.
        arrays: `(theta, x, y)`; of a module theta may be None.
        criteria: What the kernel is chosen by.

    Raises:
        ValueError: An unknown quantity, shapes that do not fit, or a mean over no samples.
        TypeError: Arrays of the wrong kind or dtype.
    """
    asked = quantity(asked)
    try:
        theta, x, y = arrays
    except (TypeError, ValueError):
        raise TypeError(f"like is a {type(arrays).__name__} that is not three arrays; pass (theta, x, y)") from None
    validate_asked(problem, asked, y)
    framed = any(map(is_frame, leaves((theta, x, y))))
    with problem.lock() if isinstance(problem, BlackBox) else nullcontext():
        theta, x, y = problem.as_inputs(theta, x, y)
        library = validate_inputs(problem, theta, x, y)
    if count(y) == 0 and asked.averages:
        raise ValueError(f"x has n = 0 samples; {asked} divides by n and needs at least 1")
    case = Case(
        problem,
        asked,
        n=max(count(y), 1),
        dtype=dtype_of(leaves(theta)[0]),
        device=device_of(leaves(theta)[0]),
        threads=criteria.threads or available_threads(),
        layout=library.arrays.layout(x),
        features=max(1, problem.features(x)),
    )
    if isinstance(problem, ExampleProblem):
        return Request(case, library, criteria, arrays=(theta, x, y))
    return Request(case, library, criteria, framed or needs_conversion(problem, theta, x, y))


def _of_size(problem: Problem, asked: str | Quantity, criteria: Criteria, size: Size) -> Request:
    validate_asked(problem, quantity(asked))
    usual = ("float64", "cpu")
    if isinstance(problem, ExampleProblem):
        first = leaves(problem.parameters())[0]
        usual = (dtype_of(first), device_of(first))
    where, threads = (size.dtype or usual[0], size.device or usual[1]), criteria.threads or available_threads()
    case = Case(problem, quantity(asked), size.n, *where, threads, features=size.features)
    library = BACKENDS[(*problem.libraries, "numpy" if case.device == "cpu" else "torch")[0]]
    return Request(case, library, criteria)


def available_threads() -> int:
    """Return how many threads this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def signature(array: Any) -> tuple[Any, ...]:
    """Return what tells arrays apart that need another kernel or proof: class, shape, dtype and device."""
    try:
        return type(array), array.shape, array.dtype, array.device
    except AttributeError:
        return (type(array), *(getattr(array, name, None) for name in ("shape", "dtype", "device")))
