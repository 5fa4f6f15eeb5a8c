"""The stochastic gradient as an estimator of the true one: what is an identity, and what is a statistical claim.

That the mean of the per-sample gradients is the gradient of the mean loss is linearity: it holds whatever the data,
and `compare_gradients` checks it by four ways. How well ONE sample or a mini-batch estimates it is a claim about the
data: `estimate` measures it by drawing mini-batches, and sets theory beside it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from gradkernels.case import Case, Inputs
from gradkernels.check import check
from gradkernels.check.reference import Reference
from gradkernels.estimate.minibatch import MinibatchStatistics, Population, measure_minibatches, standard_error
from gradkernels.kernel import Kernel
from gradkernels.names import counted
from gradkernels.problems import BlackBox, Problem, Regression
from gradkernels.problems.regression.target_guard import target_guard
from gradkernels.quantity import QUANTITIES
from gradkernels.registry import kernel as kernel_by_key
from gradkernels.tree import Tree, count, named
from gradkernels.truth import Floats

GRADIENT_KERNELS = {
    "torch.autograd.gradient": "one backward pass of the mean loss",
    "torch.loop+.gradient": "mean of the per-sample gradients, one backward pass each",
    "numpy.matmul.gradient": "by hand, the closed form of the full batch",
    "numpy.loop+.gradient": "by hand, mean of the per-sample gradients",
}
"""The coursework's four ways to the true gradient: kernel key, and what it does in words."""

DRAWS = 1000
LEAST_DRAWS = 30
MOST_DRAWS = 1_000_000
LARGEST_DEFAULT = 4096


@dataclass(frozen=True, eq=False)
class GradientStudy:
    """The true gradient and how well mini-batches estimate it.

    Attributes:
        n: Number of samples: the population.
        draws: Mini-batches drawn per size.
        replace: Whether a mini-batch may hold a sample twice.
        seed: Of the draws.
        kernel: Key of the kernel that computed the per-sample gradients.
        gradient: The true gradient G, by differentiating the mean loss; theta's shape.
        mean: Mean of the per-sample gradients; equal to it but for rounding.
        loss: Mean loss.
        trace: tr(Sigma), the summed variances (divided by n) of the per-sample gradients.
        noise_scale: tr(Sigma) / |G|^2, the batch size at which noise and gradient are equally long (McCandlish,
            Kaplan, Amodei et al. 2018, arXiv:1812.06162, equation 2.9); infinite where the gradient is zero.
        batches: One MinibatchStatistics per size, in order.
    """

    n: int
    draws: int
    replace: bool
    seed: int
    kernel: str
    gradient: Floats
    mean: Floats
    loss: float
    trace: float
    noise_scale: float
    batches: tuple[MinibatchStatistics, ...]

    def theory(self, size: int) -> float:
        """Return the standard error that mini-batches of `size` samples must have."""
        return standard_error(self.trace, self.n, size, self.replace)


@dataclass(frozen=True, eq=False)
class GradientComparison:
    """One gradient, computed several ways at the same parameters.

    Attributes:
        gradients: By kernel key, each of theta's shape, float64.
        difference: Difference between two ways in the entry where they disagree most.
        allowed: What rounding allows there.
    """

    gradients: dict[str, Floats]
    difference: float
    allowed: float

    @property
    def agree(self) -> bool:
        """Whether they are equal but for rounding."""
        return self.difference <= self.allowed


def compare_gradients(problem: Problem, theta: Floats, x: Floats, y: Tree) -> GradientComparison:
    """Compute the gradient of the mean loss in float64 by those of `GRADIENT_KERNELS` that can do this problem.

    Args:
        problem: Whose loss is differentiated.
        theta: Parameters, `(p,)` or `(d + 1, classes)`.
        x: Features `(n, d)`, or `(n,)` for one.
        y: Targets `(n,)`.

    Raises:
        ValueError: Inputs that do not fit together or are not finite.
    """
    inputs, reference = _prepare(problem, theta, x, y)
    kernels = [kernel for key in GRADIENT_KERNELS if (kernel := kernel_by_key(key)).accepts(problem)]
    gradients = {kernel.key: _compute(kernel, problem, inputs) for kernel in kernels}
    spread = np.ptp(list(gradients.values()), axis=0)
    allowed = 2 * _rounding(reference)
    worst = np.unravel_index(np.argmax(spread / np.maximum(allowed, np.finfo(float).tiny)), spread.shape)
    return GradientComparison(gradients, float(spread[worst]), float(allowed[worst]))


def estimate(
    problem: Problem,
    theta: Floats,
    x: Floats,
    y: Tree,
    batch_sizes: Iterable[int] | None = None,
    draws: int = DRAWS,
    replace: bool = False,
    seed: int = 0,
    kernel: str | None = None,
) -> GradientStudy:
    """Draw mini-batches of each size and compare their gradients with the true one, in float64.

    Args:
        problem: Whose loss is differentiated.
        theta: Parameters, the same for all mini-batches.
        x: Features `(n, d)`, or `(n,)` for one.
        y: Targets `(n,)`.
        batch_sizes: Samples per mini-batch; by default 1, 2, 4, ... and n, but at most 4096.
        draws: Mini-batches per size, at least 30.
        replace: Draw the samples of a mini-batch with replacement.
        seed: Of the draws; what is drawn for one size does not depend on the other sizes.
        kernel: Key of a per-sample kernel; it is proven on these very inputs before it is used.

    Raises:
        ValueError: Inputs that do not fit together or are not finite; a batch size beyond n without replacement; too
            few draws; a kernel that cannot do it.
        Disagreement: The kernel's per-sample gradients are wrong.
    """
    inputs, reference = _prepare(problem, theta, x, y)
    sizes = _sizes(batch_sizes, count(inputs[2]), replace)
    _require_draws(draws)
    rows = kernel_by_key(kernel or _default_kernel(problem))
    population = _population(rows, inputs, reference, replace)
    batches = tuple(measure_minibatches(population, size, draws, seed) for size in sizes)
    drawn, mean = (len(population.rows), draws, replace, seed, rows.key), population.rows.mean(0)
    gradient, loss = reference.gradient, float(np.mean(problem.loss(*inputs)))
    truth = (gradient, mean.reshape(gradient.shape), loss, population.trace, population.noise_scale)
    return GradientStudy(*drawn, *truth, batches)


def _population(rows: Kernel, inputs: Inputs, reference: Reference, replace: bool) -> Population:
    """Compute the per-sample gradients that mini-batches are drawn from, by a kernel that is proven on them."""
    problem, n = reference.problem, count(inputs[2])
    features = inputs[1].size // n
    check(rows, Case(problem, QUANTITIES["per_sample"], n, features=features), inputs, reference)
    return Population(
        rows=_compute(rows, problem, inputs).reshape(n, -1),
        gradient=reference.gradient.ravel(),
        rounding=_rounding(reference).ravel(),
        replace=replace,
    )


def default_sizes(n: int) -> tuple[int, ...]:
    """Return 1, 2, 4, ... below n, and n; at most 4096."""
    largest = min(n, LARGEST_DEFAULT)
    return (*(2**k for k in range(largest.bit_length()) if 2**k < largest), largest)


def _default_kernel(problem: Problem) -> str:
    return "numpy.broadcast.per_sample" if isinstance(problem, Regression) else "torch.vmap.per_sample"


def _sizes(given: Iterable[int] | None, n: int, replace: bool) -> tuple[int, ...]:
    sizes = default_sizes(n) if given is None else tuple(sorted(set(given)))
    if not sizes or sizes[0] < 1:
        raise ValueError(f"batch sizes are {', '.join(map(str, sizes)) or 'none'}; each must be at least 1")
    if sizes[-1] > n and not replace:
        hint = "take at most that many, or draw with replacement by --replace (replace=True)"
        raise ValueError(f"a batch of {sizes[-1]} cannot be drawn from {counted(n, 'row')} without replacement; {hint}")
    return sizes


def _prepare(problem: Problem, theta: Floats, x: Floats, y: Tree) -> tuple[Inputs, Reference]:
    if isinstance(problem, BlackBox):
        raise ValueError(f"estimate is for regressions on a table of numbers, not for {problem.name}")
    inputs = problem.cast(theta, x, y, "float64", "K")
    problem.validate(*inputs)
    if isinstance(problem, Regression) and (look := target_guard(problem)) is not None:
        look(inputs[2])
    if not count(inputs[2]):
        raise ValueError("there are no rows; a mean over none has no gradient")
    for name, array in (pair for tree in zip(("theta", "x", "y"), inputs, strict=True) for pair in named(*tree)):
        if not np.isfinite(array).all():
            raise ValueError(f"{name} holds NaN or infinity; leave such rows out")
    reference = Reference(problem, *inputs)
    with np.errstate(over="ignore", invalid="ignore"):
        if not np.isfinite(reference.mean_square_scale).all():
            raise ValueError("the squares of these gradients overflow float64; rescale the columns or the target")
    return inputs, reference


def _compute(kernel: Kernel, problem: Problem, inputs: Inputs) -> Floats:
    arrays = kernel.backend.put(inputs)
    gradient: Floats = kernel.backend.get(kernel.backend.wait(kernel.build(problem)(*arrays)))
    return gradient


def _rounding(reference: Reference) -> Floats:
    """Bound how far a float64 gradient is from the true one by rounding; theta's shape (see `gradkernels.check`)."""
    scale = reference.mean_scale
    roundings = len(reference.rows) + scale.size + 4
    return reference.problem.tolerance("float64", roundings) * scale


def _require_draws(draws: int) -> None:
    if draws < LEAST_DRAWS:
        raise ValueError(f"{counted(draws, 'draw')} cannot give an interval; take at least {LEAST_DRAWS}")
    if draws > MOST_DRAWS:
        raise ValueError(f"{counted(draws, 'draw')} would never end; take at most {MOST_DRAWS:,}")
