"""The Jacobian: gradients of a model's outputs, which no loss is made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, Literal, TypedDict, Unpack, overload

from gradkernels.dispatch.bound_kernels import bound_kernel
from gradkernels.dispatch.keywords import with_names
from gradkernels.dispatch.request import KernelLike, NameGlobs, R, ResultsPath
from gradkernels.fastest.flat_rows import flat_row_arrays
from gradkernels.problems import Problem
from gradkernels.validate import validate_problem

if TYPE_CHECKING:
    from torch import Tensor

    from gradkernels.dispatch.request import OwnOrGiven, Tensors


class OutputOptions(TypedDict, Generic[R], total=False):
    """Keyword arguments of `gk.jacobian` besides `flat`."""

    of: Callable[[Any], Any] | None
    parameters: NameGlobs
    out: R | None
    kernel: KernelLike
    results: ResultsPath
    max_bytes: int | None


@overload
def jacobian(
    problem: Problem, theta: OwnOrGiven, x: object, *, flat: Literal[True], **options: Unpack[OutputOptions[Tensor]]
) -> Tensor: ...
@overload
def jacobian(
    problem: Problem,
    theta: OwnOrGiven,
    x: object,
    *,
    flat: Literal[False] = False,
    **options: Unpack[OutputOptions[Tensors]],
) -> Tensors: ...
def jacobian(
    problem: Problem,
    theta: Any,
    x: Any,
    *,
    of: Callable[[Any], Any] | None = None,
    parameters: NameGlobs = None,
    out: Any = None,
    flat: bool = False,
    kernel: KernelLike = None,
    results: ResultsPath = None,
    max_bytes: int | None = None,
) -> Any:
    """Compute the gradient of each output of each sample: `(n, c, *theta.shape)` of outputs `(n, c)`.

    Args:
        problem: A `ModuleProblem`, whose loss plays no part: `gk.ModuleProblem(model)` will do.
        theta: Parameters by name, or None for the model's own.
        x: Inputs, samples first. n may be 0.
        of: `of(output)`, the tensor `(n, ...)` that is meant where the model gives more than one.
        parameters: Names or globs of the only parameters that are asked about; see `gk.gradient`.
        out: Memory of the result's shapes and dtype to write it into and return.
        flat: Whether to return one array `(n, c, P)`, in the order of `gk.flat(problem)`.
        kernel: A way (`torch.hooks`), key or Kernel to take instead of the fastest.
        results: A results file that decides which is fastest.
        max_bytes: Peak memory allowed in bytes, the result included; see `gk.gradient`.

    Raises:
        TypeError: The problem is of no module, and has no outputs that are known.
        ValueError: The output is no tensor with the samples first, or its samples depend on each other.
        Disagreement: The kernel computes this model wrongly.
    """
    validate_problem(problem)
    asked = with_names(problem, parameters).of_outputs(of)
    bound = bound_kernel("jacobian", asked, (theta, x, None), (kernel, results, max_bytes))
    if flat:
        x, weights = asked.prepared(x, None)  # type: ignore[attr-defined]
        return flat_row_arrays(bound, asked, (theta, x, weights), out, tuple(weights.shape[1:]))
    return bound(theta, x, None, out)
