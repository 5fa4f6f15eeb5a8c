"""Options of the calls by which a quantity is proven and timed, where it takes more than theta, x and y."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from gradkernels.backend import Backend
from gradkernels.case import Case, Inputs
from gradkernels.kernel import Compute
from gradkernels.problems.regression.conversion import is_integral
from gradkernels.quantity import Draw, Options, Quantity
from gradkernels.tree import count, each, leaves


def needed(case: Case, inputs: Inputs, backend: Backend) -> Options:
    """Return the options without which a case has no result, in a library's arrays.

    Args:
        case: What is computed.
        inputs: numpy arrays `(theta, x, y)`.
        backend: The kernel's library.
    """
    return given(case.quantity, options_in(case.quantity.needs(_draw(case, inputs)), case.dtype), backend, case.device)


def with_needed(compute: Compute, case: Case, inputs: Inputs, backend: Backend) -> Compute:
    """Return a compute that takes theta, x and y alone, whatever else its quantity needs.

    Args:
        compute: Of the case's quantity.
        case: What is computed.
        inputs: numpy arrays `(theta, x, y)`.
        backend: The kernel's library.
    """
    options = needed(case, inputs, backend)
    return partial(compute, **options) if options else compute


def proving(case: Case, inputs: Inputs, norms: Any) -> Iterator[tuple[str, Options]]:
    """Yield what a quantity is proven with, as numpy arrays of the case's dtype, and what messages say of it.

    Args:
        case: What is computed.
        inputs: numpy arrays `(theta, x, y)`.
        norms: Lengths of the samples' gradients, `(n,)`.
    """
    draw = _draw(case, inputs)
    needs = case.quantity.needs(draw)
    yield "", options_in(needs, case.dtype)
    if len(norms) and (case.quantity.drops or np.isfinite(norms).all()):
        for says, more in case.quantity.settings(draw._replace(norms=norms)):
            yield says, options_in(needs | more, case.dtype)


def _draw(case: Case, inputs: Inputs) -> Draw:
    theta, *batch = inputs
    return Draw(count(inputs[2]), theta, case.seed, batch=tuple(batch))


def options_in(options: Options, dtype: str) -> Options:
    """Return the options with what is float64 in another dtype."""

    def converted(value: Any) -> Any:
        floating = isinstance(value, np.ndarray) and value.dtype == np.float64
        return value.astype(dtype) if floating else value

    return {name: each(converted, value) for name, value in options.items()}


def given(quantity: Quantity, options: Options, backend: Backend, device: str) -> Options:
    """Return options as a kernel takes them: in its library's arrays, but for the numbers of groups.

    Args:
        quantity: Whose options they are.
        options: numpy arrays and what is none.
        backend: The kernel's library.
        device: Where it computes.
    """
    batches = {option.name for option in quantity.options if option.batch}

    def placed(value: Any) -> Any:
        return backend.put(value.copy(), device) if isinstance(value, np.ndarray) and value.dtype.kind == "f" else value

    return {
        name: backend.put(value, device) if name in batches else each(placed, value) for name, value in options.items()
    }


def arrays_in(options: Options) -> tuple[Any, ...]:
    """Return the floating arrays among options; numbers of groups are numpy's in every library."""
    found = (leaf for value in options.values() for leaf in leaves(value) if hasattr(leaf, "dtype"))
    return tuple(leaf for leaf in found if not is_integral(leaf))
