"""The independent reference for modules: one backward pass per sample, in float64, through the model as it is.

The rounding scale of a row is its norm: a whole network rounds more than one inner product, and every entry shares
in it. For some rows that is too little. Where a loss is nearly flat a row is a small difference of large numbers, which
no working precision can know to its own size; and where a ReLU is at its kink, rounding decides on which side. Such
rows are told by `row_errors`, which is asked only of rows that disagree.

The gradient is one backward pass of the mean loss of the whole batch. That it must be the mean of the rows is what a
per-sample gradient relies on, so a model that mixes the samples of a batch is found here and refused.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from gradkernels.check.modules.model_pass import FLOAT32, FLOAT64, OWN_DTYPES, model_pass
from gradkernels.check.rounding import CHANGES, changed_a_little, largest_distances, mixes_samples, row_scales
from gradkernels.check.true_gradients import TrueGradients
from gradkernels.problems.module.black_box import BlackBox
from gradkernels.problems.module.output_axes import observe_output
from gradkernels.tree import Tree, count
from gradkernels.truth import Floats

DRAWS_RANDOM_NUMBERS = (
    "the model draws random numbers (dropout?), which randomness='error' refuses: call model.eval(), or make the "
    "ModuleProblem with randomness='same' (every sample sees the same draw) or 'different' (each its own)"
)
MIXES_SAMPLES = (
    "the gradient of the mean loss of a batch is not the mean of the gradients of its samples: the model or loss_fn "
    "mixes the samples of a batch, or does not have them first (batch_first=True?); no sample has a gradient of its "
    "own there"
)


def module_gradients(problem: BlackBox, theta: Any, x: Tree, y: Tree) -> TrueGradients:
    """Differentiate each sample's loss by a backward pass of its own, and the mean of all losses by one.

    Args:
        problem: A model and its loss.
        theta: Parameters by name, numpy arrays.
        x: Inputs of n samples.
        y: Targets.

    Returns:
        Rows are `(n, p)`, parameters in theta's order, and the gradient `(p,)`.

    Raises:
        ValueError: The model mixes the samples of a batch, draws random numbers where that is an error, writes to its
            buffers, or `loss_fn` is not reduced as the problem says.
    """
    wide, gradient, dtype = _widest(problem, theta, x, y)
    scale = row_scales(wide)
    errors = partial(row_errors, problem, theta, x, y, wide, dtype)
    return TrueGradients(wide, np.broadcast_to(scale[:, None], wide.shape), gradient, scale, errors)


def _widest(problem: BlackBox, theta: Any, x: Tree, y: Tree) -> tuple[Floats, Floats, str]:
    """Compute rows and gradient in the widest dtype that works, and return it: float64 where it can be.

    A model that makes tensors of the default dtype by itself cannot do float64, one with casts to bfloat16 nothing but
    its own dtypes; one that masks by the largest number of a dtype may overflow in another.
    """
    dtypes, found = _dtypes(problem), list[tuple[Floats, Floats, str]]()
    for dtype in dtypes:
        try:
            found.append((*rows_and_gradient(problem, theta, x, y, dtype), dtype))
        except (RuntimeError, TypeError):
            if dtype == dtypes[-1] and not found:
                raise
            continue
        if np.isfinite(found[-1][0]).all():
            return found[-1]
    return found[0]


def _dtypes(problem: BlackBox) -> list[str]:
    own = {str(one.dtype).removeprefix("torch.") for one in problem.model.parameters() if one.is_floating_point()}
    return [FLOAT64, *([FLOAT32] if own != {FLOAT64} else []), *([OWN_DTYPES] if own & {"bfloat16", "float16"} else [])]


def rows_and_gradient(problem: BlackBox, theta: Any, x: Tree, y: Tree, dtype: str) -> tuple[Floats, Floats]:
    """Differentiate the losses of the model in one dtype.

    Args:
        problem: A model and its loss.
        theta: Parameters by name, numpy arrays.
        x: Inputs of n samples.
        y: Targets.
        dtype: Of all tensors, or `own` for each in its own.

    Returns:
        Rows `(n, p)` and the gradient of the mean of all losses `(p,)`, float64.
    """
    with model_pass(problem, theta, x, y, dtype) as one:
        observe_output(problem.model, problem.output, one.x)
        rows = one.rows(range(count(y)))
        if one.drawn():
            if problem.randomness == "error":
                raise ValueError(DRAWS_RANDOM_NUMBERS)
            return rows, rows.mean(0)  # a batch draws other numbers for each of its samples
        gradient = one.gradient()
    if gradient is None:
        return rows, rows.mean(0)
    if mixes_samples(rows, gradient, dtype):
        raise ValueError(MIXES_SAMPLES)
    return rows, gradient


def row_errors(
    problem: BlackBox, theta: Any, x: Tree, y: Tree, rows: Floats, held: str, samples: Any, dtype: str
) -> Floats:
    """Tell by how much rows of a working precision may be off: as a pass in it is, or where parameters change a little.

    Args:
        problem: A model and its loss.
        theta: Parameters by name, numpy arrays.
        x: Inputs of n samples.
        y: Targets.
        rows: Their gradients, `(n, p)`.
        held: What the model held for them, which it holds for changed parameters.
        samples: Numbers of the k samples that are asked of, `(k,)`.
        dtype: The working precision.

    Returns:
        The largest distance of each row from those, `(k,)`; 0 where none is finite.
    """
    kinds = [
        (held, changed) for changed in changed_a_little(theta, CHANGES["bfloat16" if held == OWN_DTYPES else dtype])
    ]
    if (held, dtype) == (FLOAT64, FLOAT32):
        kinds.append((FLOAT32, theta))
    errors = np.zeros(len(samples))
    for kind, parameters in kinds:
        try:
            with model_pass(problem, parameters, x, y, kind) as one:
                others = one.rows(samples)
        except (RuntimeError, TypeError):  # it computes in float64 whatever it is given
            continue
        errors = largest_distances(errors, others, rows[samples])
    return errors
