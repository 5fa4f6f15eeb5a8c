"""torch.compile: of regressions the closed form, fused into few loops over the data; of modules vmap of the gradient.

Compiled for each shape that it meets, which takes seconds for a shape that is new to the machine, and about a second
for one in torch's cache on disk.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gradkernels.backend import Array
from gradkernels.engines.compiled.available import refuses
from gradkernels.engines.compiled.modules import vmap_rows
from gradkernels.engines.compiled.per_shape import per_shape
from gradkernels.kernel import Compute, declare
from gradkernels.memory import empty_torch, ordinary
from gradkernels.problems import Regression
from gradkernels.problems.module.module_problem import ModuleProblem
from gradkernels.quantity import Moments
from gradkernels.row_norms import scaled
from gradkernels.tree import Tree, each


def _plain(function: Callable[..., Any], shape: Callable[[Array, Array], tuple[int, ...]] | None = None) -> Compute:
    """Compile `function(theta, x, y)`, or `function(theta, x, y, out)` where the result has a `shape`."""
    import torch

    compiled = per_shape(function)

    def call(theta: Array, x: Array, y: Tree, out: Array | None = None, max_norm: float = 1.0) -> Any:
        # Callers may be inside inference_mode, whose tensors could not be used outside it; only its own memory
        # can be written to nowhere else.
        with torch.inference_mode(out is not None and out.is_inference()), torch.no_grad():
            theta, x, y = each(lambda tensor: ordinary(tensor).detach(), (theta, x, y))
            if shape is None:
                # As a tensor, since each new number would be compiled in.
                return compiled(theta, x, y, torch.tensor(max_norm, dtype=theta.dtype, device=theta.device))
            result = empty_torch(shape(theta, x), theta) if out is None else out
            compiled(theta, x, y, result)
            return result

    return call


@declare("torch.compiled.gradient", problems=Regression, refuses=refuses, compiles=True)
def gradient(problem: Regression) -> Compute:
    """Build (sum of slopes, x^T slopes) / n + l2 * (0, theta_{1..d})."""
    import torch

    def compute(theta: Array, x: Array, y: Tree, _: Array) -> Array:
        return _penalised(problem, theta, _sum(problem, problem.slopes(torch, theta, x, y), x) / len(x))

    return _plain(compute)


@declare(
    "torch.compiled.per_sample",
    problems=(Regression, ModuleProblem),
    out=True,
    refuses=refuses,
    compiles=True,
    chunks=(16, 256),
)
def per_sample(problem: Regression | ModuleProblem, chunk: int = 64) -> Compute:
    """Build rows slope * (1, x) + l2 * (0, theta_{1..d}) of a regression, all at once.

    Of a module, vmap(grad(loss)) of `chunk` samples at a time.
    """
    if isinstance(problem, ModuleProblem):
        return vmap_rows(problem, chunk)
    return _regression_rows(problem)


def _regression_rows(problem: Regression) -> Compute:
    import torch

    def compute(theta: Array, x: Array, y: Tree, out: Array) -> None:
        out.copy_(_penalised(problem, theta, _rows(problem, problem.slopes(torch, theta, x, y), x)))

    return _plain(compute, lambda theta, x: (len(x), *theta.shape))


@declare("torch.compiled.norms", problems=Regression, out=True, refuses=refuses, compiles=True)
def norms(problem: Regression) -> Compute:
    """Build |slope| sqrt(1 + |x|^2); with a penalty the norm of the row, which is formed in registers only."""
    import torch

    def compute(theta: Array, x: Array, y: Tree, out: Array) -> None:
        out.copy_(_norms(problem, theta, problem.slopes(torch, theta, x, y), x))

    return _plain(compute, lambda theta, x: (len(x),))


@declare("torch.compiled.moments", problems=Regression, refuses=refuses, compiles=True)
def moments(problem: Regression) -> Compute:
    """Build the mean, then the mean of squared distances from it; a penalty shifts the mean alone."""
    import torch

    def compute(theta: Array, x: Array, y: Tree, _: Array) -> tuple[Array, Array]:
        slope = problem.slopes(torch, theta, x, y)
        mean = _sum(problem, slope, x) / len(x)
        return _penalised(problem, theta, mean), ((_rows(problem, slope, x) - mean) ** 2).sum(0) / len(x)

    pair = _plain(compute)
    return lambda theta, x, y: Moments(*pair(theta, x, y))


@declare("torch.compiled.clipped_sum", problems=Regression, refuses=refuses, compiles=True)
def clipped_sum(problem: Regression) -> Compute:
    """Build sums of scaled slopes; `max_norm` is a tensor inside, so that another one compiles nothing."""
    import torch

    def compute(theta: Array, x: Array, y: Tree, max_norm: Array) -> Array:
        slope = problem.slopes(torch, theta, x, y)
        factor = 1 / torch.clip(_norms(problem, theta, slope, x) / max_norm, min=1.0)
        scaled = slope * (factor[:, None] if problem.outputs else factor)
        return _penalised(problem, theta, _sum(problem, scaled, x), factor.sum())

    return _plain(compute)


def _columns(x: Array) -> Array:
    return x if x.ndim == 2 else x[:, None]


def _sum(problem: Regression, slope: Array, x: Array) -> Array:
    """Return the sum of slope * (1, x)."""
    import torch

    rest = _columns(x).T @ slope
    return torch.cat([slope.sum(0)[None], rest]) if problem.fit_intercept else rest


def _rows(problem: Regression, slope: Array, x: Array) -> Array:
    """Return rows slope * (1, x), `(n, *theta.shape)`."""
    import torch

    columns = _columns(x)[..., None] if problem.outputs else _columns(x)
    rest = slope[:, None] * columns
    return torch.cat([slope[:, None], rest], 1) if problem.fit_intercept else rest


def _norms(problem: Regression, theta: Array, slope: Array, x: Array) -> Array:
    import torch

    if problem.l2:
        rows = _penalised(problem, theta, _rows(problem, slope, x))
        return scaled(torch, [rows.flatten(1)])
    size = scaled(torch, [slope]) if problem.outputs else slope.abs()
    first = [x.new_ones(len(x), 1)] if problem.fit_intercept else []
    return size * scaled(torch, [_columns(x), *first])


def _penalised(problem: Regression, theta: Array, value: Array, times: Array | float = 1.0) -> Array:
    """Return `value` + times * l2 * (0, theta_{1..d})."""
    import torch

    if not problem.l2:
        return value
    rest = times * problem.l2 * theta[int(problem.fit_intercept) :]
    return value + (torch.cat([torch.zeros_like(theta[:1]), rest]) if problem.fit_intercept else rest)
