"""Per-sample gradients that do not fit into memory, handed out chunk by chunk."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Unpack, overload

from gradkernels.dispatch.bind import BoundKernel
from gradkernels.dispatch.fastest_kernel import fastest
from gradkernels.dispatch.keywords import with_names
from gradkernels.dispatch.memory_limit import SCRATCH_BYTES, bytes_per_sample
from gradkernels.dispatch.request import ChunkOptions, KernelLike, NameGlobs
from gradkernels.problems import BlackBox, Problem
from gradkernels.tree import Tree, count, each, leaves, take
from gradkernels.validate import validate_count

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gradkernels.dispatch.request import A, F, OwnOrGiven, TargetArray, Tensors
    from gradkernels.problems.module.module_problem import ModuleProblem
    from gradkernels.tree import FrameProtocol

DEFAULT_CHUNK_BYTES = 2**26
"""Of the rows of a chunk where nothing else is asked for."""


@overload
def per_sample_chunks(
    problem: ModuleProblem, theta: OwnOrGiven, x: object, y: object, **options: Unpack[ChunkOptions[Tensors]]
) -> Iterator[tuple[slice, Tensors]]: ...
@overload
def per_sample_chunks(
    problem: Problem,
    theta: NDArray[F],
    x: NDArray[F] | FrameProtocol,
    y: TargetArray,
    **options: Unpack[ChunkOptions[NDArray[F]]],
) -> Iterator[tuple[slice, NDArray[F]]]: ...
@overload
def per_sample_chunks(
    problem: Problem, theta: A, x: A, y: TargetArray, **options: Unpack[ChunkOptions[A]]
) -> Iterator[tuple[slice, A]]: ...
def per_sample_chunks(
    problem: Problem,
    theta: Any,
    x: Any,
    y: Any,
    *,
    chunk: int | None = None,
    max_bytes: int | None = None,
    out: Any = None,
    kernel: KernelLike = None,
    parameters: NameGlobs = None,
) -> Iterator[tuple[slice, Any]]:
    """Compute the rows of `gk.per_sample`, some samples at a time.

    Args:
        problem: What is differentiated.
        theta: Parameters; for modules a dict, or None for the model's own.
        x: Features or inputs, samples first.
        y: Targets, samples first.
        chunk: Samples at a time; None for what `max_bytes` allows, or else for about 64 MiB of rows.
        max_bytes: Peak memory allowed, the rows of a chunk included, in bytes.
        out: Memory for the rows of a chunk, used again for each: an array `(m, *theta.shape)`, or a dict of them,
            with m at least 1 and the chunk at most m. Without it each chunk's rows are memory of their own.
        kernel: Force a way, key or Kernel instead of the fastest.
        parameters: Names or globs of the only parameters that are asked about; see `gk.gradient`.

    Yields:
        The slice of the samples, and their rows: an array, or a dict by parameter name. With `out` they are valid
        until the next step.

    Raises:
        ValueError: Shapes that do not fit, a chunk below 1, or more memory needed for one sample.
        TypeError: Arrays of the wrong kind or dtype.
    """
    for name, value in (("chunk", chunk), ("max_bytes", max_bytes)):
        validate_count(name, value)
    problem = with_names(problem, parameters)
    theta, x, y = problem.as_inputs(theta, x, y)
    size = min(_sizes(problem, theta, x, y, chunk, max_bytes, out))
    return _chunks(problem, theta, x, y, size, out, kernel)


def _sizes(
    problem: Problem, theta: Tree, x: Tree, y: Tree, chunk: int | None, max_bytes: int | None, out: Tree | None
) -> Iterator[int]:
    """Yield limits to the number of samples at a time."""
    asked = problem.chosen(theta) if isinstance(problem, BlackBox) else theta
    of_row = sum(one.nbytes for one in leaves(asked))
    yield chunk or max(1, DEFAULT_CHUNK_BYTES // of_row if max_bytes is None else count(y))
    if out is not None:
        yield count(out)
    if max_bytes is not None and count(y):
        sample_bytes = of_row + (bytes_per_sample(problem, theta, x, y) if isinstance(problem, BlackBox) else of_row)
        if (fitting := (max_bytes - SCRATCH_BYTES) // sample_bytes) < 1:
            need = SCRATCH_BYTES + sample_bytes
            raise ValueError(f"one sample needs about {need:,} bytes, max_bytes={max_bytes:,}; allow more")
        yield fitting


def _chunks(
    problem: Problem, theta: Tree, x: Tree, y: Tree, size: int, out: Tree | None, kernel: KernelLike
) -> Iterator[tuple[slice, Any]]:
    n, bound = count(y), dict[int, BoundKernel[Any]]()
    for start in range(0, n, size):
        part = slice(start, min(start + size, n))
        inputs = theta, take(x, part), take(y, part)
        m = part.stop - start
        if m not in bound:
            bound[m] = fastest(problem, "per_sample", like=inputs, kernel=kernel)
        memory = {} if out is None else {"out": each(lambda one, m=m: one[:m], out)}
        yield part, bound[m](*inputs, **memory)
