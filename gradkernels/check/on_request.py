"""`gk.check`: the proof that a person asks for, of a kernel, of its key or of any function."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

from gradkernels.backend import LIBRARIES
from gradkernels.case import Case, Inputs
from gradkernels.check.prove import Proof, endure, prove
from gradkernels.check.reference import Reference
from gradkernels.kernel import Kernel
from gradkernels.names import pick
from gradkernels.problems import BlackBox
from gradkernels.registry import kernel as kernel_by_key


def check(
    kernel: Kernel | str | Callable[..., Any],
    case: Case,
    inputs: Inputs | None = None,
    reference: Reference | None = None,
    library: str | None = None,
    *,
    parameters: str | Sequence[str] | None = None,
) -> Proof:
    """Prove `kernel` on `case`: dtype, shape, finiteness, values entry by entry, identities, side effects.

    There are none where inputs stay as they are, a result shares memory with no input and no earlier result, and what
    is in the inputs counts, not whether the arrays were seen before.

    Args:
        kernel: A Kernel, its key, or any function `f(theta, x, y)` that returns the quantity of the case; for
            `clipped_sum` it takes `max_norm=1.0` too.
        case: What to compute; its own draw is the data unless `inputs` are given.
        inputs: numpy arrays `(theta, x, y)` to use instead of `case.draw()`.
        reference: The reference for these inputs, if it is there already.
        library: Whose arrays a function takes and returns: numpy, torch or jax. None for numpy, of modules torch.
        parameters: Names or globs of the only parameters that are asked about; see `gk.gradient`.

    Returns:
        The worst relative error and the tolerance.

    Raises:
        Disagreement: The result is wrong; says where and by how much.
        ValueError: The kernel does not support the case, with every reason; or the inputs are not the case's.
        TypeError: It is neither a Kernel, nor a key, nor a function.
    """
    if parameters is not None:
        case = replace(case, problem=case.problem.restricted(parameters))
    kernel = _kernel(kernel, case, library)
    if reasons := kernel.unsupported(case):
        raise ValueError(f"{kernel.key} cannot do this case: {'; '.join(reasons)}")
    case = case.for_proof()
    with case.problem.holding() if isinstance(case.problem, BlackBox) else nullcontext():
        return _proof(kernel, case, inputs, reference)


def _proof(kernel: Kernel, case: Case, inputs: Inputs | None, reference: Reference | None) -> Proof:
    compute = kernel.build(case.problem)
    proof = prove(kernel, compute, case, inputs, reference)
    if not kernel.compiles:  # for seconds, at each new number of samples; it is shown them when it is bound
        endure(kernel, compute, case)
    return proof


def _kernel(given: Kernel | str | Callable[..., Any], case: Case, library: str | None) -> Kernel:
    """Return the Kernel that is meant; a function becomes one that is built without a problem.

    Args:
        given: As `check` takes it.
        case: For its quantity.
        library: Of a function.
    """
    if library is not None and isinstance(given, Kernel | str):
        raise ValueError(f"library={library!r} is for a function; a Kernel knows the library whose arrays it takes")
    if isinstance(given, Kernel):
        return given
    if isinstance(given, str):
        return kernel_by_key(given)
    if not callable(given):
        raise TypeError(f"kernel is a {type(given).__name__}; give a Kernel, its key, or a function f(theta, x, y)")
    usual = (*case.problem.libraries, "numpy")[0]
    name = re.sub(r"\W", "", getattr(given, "__name__", "")) or type(given).__name__
    return Kernel(name, case.quantity, pick(LIBRARIES, library or usual, "library"), lambda problem: given)
