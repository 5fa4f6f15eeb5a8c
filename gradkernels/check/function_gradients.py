"""The independent reference for JAX functions: one backward pass per sample, in float64, of a batch of that sample.

The rounding scale of a row is its norm, as for modules. The gradient is one backward pass of the mean loss of the whole
batch. That it must be the mean of the rows is what a per-sample gradient relies on, so that a function that compares
the samples of a batch is found here and refused.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Any

import numpy as np

from gradkernels.backend import BACKENDS
from gradkernels.check.rounding import CHANGES, changed_a_little, largest_distances, mixes_samples, row_scales
from gradkernels.check.true_gradients import TrueGradients
from gradkernels.problems import FunctionProblem
from gradkernels.quantity import flat
from gradkernels.tree import Tree, count, take
from gradkernels.truth import Floats

COMPARES_SAMPLES = (
    "the gradient of the mean of losses(params, x, y) is not the mean of the gradients of its samples: the function "
    "compares the samples of a batch with each other (batch normalization in training, dropout by one key of all), or "
    "does not have them first, so that no sample has a gradient of its own; or it rounds to bfloat16 or float16 on the "
    "way, where none can be proven: have it compute in the dtype of its params"
)

NOT_LINEAR = (
    "the gradient of the mean of losses(params, x, y) is not the mean of the gradients of its samples, though that of "
    "their sum is their sum: a backward pass of the function's own (jax.custom_vjp) does not scale with the cotangent "
    "that it is given, clips it at a constant for instance, so that a sample's gradient depends on how many there are; "
    "leave that out, and clip gradients of samples with gk.clipped_sum"
)


def gradients_of(problem: FunctionProblem, theta: Tree, x: Tree, y: Tree) -> TrueGradients:
    """Differentiate each sample's loss by a backward pass of its own, and the mean of all losses by one.

    Args:
        problem: A JAX function.
        theta: Parameters, flat, numpy arrays, as all that follow.
        x: Inputs of n samples, one at least.
        y: Targets.

    Raises:
        ValueError: The function compares the samples of a batch with each other, or its backward pass is not linear.
    """
    rows, gradient, dtype = _widest(problem, theta, x, y)
    scale = row_scales(rows)
    if mixes_samples(rows, gradient, dtype):
        raise ValueError(NOT_LINEAR if _sums_up(problem, (theta, x, y), rows, dtype) else COMPARES_SAMPLES)
    errors = partial(_row_errors, problem, (theta, x, y), rows, dtype)
    shape = rows.shape if isinstance(theta, dict) else (len(rows), *theta.shape)
    wide = np.broadcast_to(scale.reshape(-1, *[1] * (len(shape) - 1)), shape)
    return TrueGradients(rows.reshape(shape), wide, gradient.reshape(shape[1:]), scale, errors)


def _widest(problem: FunctionProblem, theta: Tree, x: Tree, y: Tree) -> tuple[Floats, Floats, str]:
    """Compute in float64; in float32 where the function cannot do that, as one whose loops carry float32 cannot."""
    try:
        return *_rows_and_gradient(problem, theta, x, y, "float64"), "float64"
    except (TypeError, ValueError):
        return *_rows_and_gradient(problem, theta, x, y, "float32"), "float32"


def _rows_and_gradient(problem: FunctionProblem, theta: Tree, x: Tree, y: Tree, dtype: str) -> tuple[Floats, Floats]:
    rows = _rows(problem, (theta, x, y), range(count(y)), dtype)
    with _precision(dtype):
        of_mean = _differentiated(problem)[1]
        return rows, flat(of_mean(*BACKENDS["jax"].put((theta, x, y))))


def _rows(problem: FunctionProblem, inputs: tuple[Tree, Tree, Tree], samples: Any, dtype: str) -> Floats:
    """Compute rows `(k, p)` of some samples, float64 numbers of passes in a dtype."""
    of_one = _differentiated(problem)[0]
    with _precision(dtype):
        theta, *data = BACKENDS["jax"].put(inputs)
        return np.stack([flat(of_one(theta, *take(tuple(data), int(i)))) for i in samples])


def _sums_up(problem: FunctionProblem, inputs: tuple[Tree, Tree, Tree], rows: Floats, dtype: str) -> bool:
    """Return whether the gradient of the summed losses, whose cotangents are 1 as a single loss's, is the rows' sum.

    Args:
        problem: A JAX function.
        inputs: Theta, x and y.
        rows: Their gradients, `(n, p)`.
        dtype: What they were computed in.
    """
    import jax

    with _precision(dtype):
        of_sum = jax.grad(lambda *arrays: problem.sample_losses(*arrays).sum())
        total = flat(of_sum(*BACKENDS["jax"].put(inputs)))
    return not mixes_samples(rows, total / len(rows), dtype)


def _row_errors(
    problem: FunctionProblem, inputs: tuple[Tree, Tree, Tree], rows: Floats, held: str, samples: Any, dtype: str
) -> Floats:
    """Tell by how much rows of a working precision may be off: as a pass in it is, or where parameters change a little.

    Args:
        problem: A JAX function.
        inputs: Theta, x and y.
        rows: Their gradients, `(n, p)`.
        held: The dtype they were computed in.
        samples: Numbers of the k samples that are asked of, `(k,)`.
        dtype: The working precision.

    Returns:
        The largest distance of each row from those, `(k,)`; 0 where none is finite.
    """
    theta, x, y = inputs
    passes = [(changed, held) for changed in changed_a_little(theta, CHANGES[dtype])]
    if (held, dtype) == ("float64", "float32"):
        passes.append((theta, "float32"))
    errors = np.zeros(len(samples))
    for parameters, kind in passes:
        errors = largest_distances(errors, _rows(problem, (parameters, x, y), samples, kind), rows[samples])
    return errors


@lru_cache(maxsize=64)
def _differentiated(problem: FunctionProblem) -> tuple[Any, Any]:
    """Return the gradients of one sample's loss and of the mean loss."""
    import jax

    return jax.jit(jax.grad(problem.loss)), jax.jit(jax.grad(lambda *inputs: problem.sample_losses(*inputs).mean()))


def _precision(dtype: str) -> Any:
    """Let JAX compute in float64, or in float32, to which it then rounds all that it is given."""
    import jax

    return jax.enable_x64(dtype == "float64")
