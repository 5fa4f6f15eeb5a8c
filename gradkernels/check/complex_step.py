"""The independent reference: derivatives in float64 from the loss alone, by the complex step.

Im f(theta + i h e_j) / h is the derivative without a difference of close numbers, so it is exact to rounding for h far
below the square root of the smallest relative step (Squire & Trapp 1998, SIAM Review 40(1); Martins, Sturdza & Alonso
2003, ACM TOMS 29(3)). It uses no closed form, no automatic differentiation and no library but numpy, and is never a
competitor.
"""

from __future__ import annotations

import numpy as np

from gradkernels.check.true_gradients import TrueGradients
from gradkernels.elementwise import STEP, namespace
from gradkernels.problems.regression.regression import Regression
from gradkernels.tree import Tree, take
from gradkernels.truth import Floats

BLOCK_NUMBERS = 2**16  # keep a block's complex copies of eta in cache
MOST_STEPS = 10**8  # evaluations of one predictor that the gradient may take: some 10 s


def regression_gradients(problem: Regression, theta: Floats, x: Floats, y: Tree) -> TrueGradients:
    """Differentiate along eta and multiply by the features; step along theta for the gradient.

    Scale: (that of the slope for an error of |theta_0| + |x| . |theta| in eta) * |(1, x)|, to first order. Source:
    running error analysis of an inner product (Higham 2002, Accuracy and Stability of Numerical Algorithms,
    section 3.3) carried through the slope.

    Args:
        problem: Whose loss is differentiated.
        theta: Parameters `(p, *outputs)`, float64, as all that follow.
        x: Features `(n, d)`, or `(n,)` for one.
        y: Targets `(n,)`, with their weights where the problem is weighted.
    """
    target, weight = problem.split(y)
    eta = problem.eta(theta, x, target)
    slope = _slope(problem, eta, target)
    columns = [1] * len(problem.outputs)
    scale = problem.slope_scale(eta, target, problem.eta(np.abs(theta), np.abs(x), target))
    # The limit that a slope has at infinity is not moved by rounding.
    infinite = np.isinf(eta) | np.isinf(target).reshape(-1, *columns)
    scale = np.where(infinite, np.abs(slope), scale)
    if weight is not None:
        slope, scale = (weight.reshape(-1, *columns) * part for part in (slope, scale))
    design = problem.design(x)
    penalty = problem.penalty(theta)
    outer = design.reshape(*design.shape, *columns)
    rows, scale = outer * slope[:, None], np.abs(outer * scale[:, None])
    if problem.l2:
        rows += penalty
        scale += np.abs(penalty)
    return TrueGradients(
        rows, scale, _gradient(problem, theta, eta, design, y, rows) if len(x) else np.zeros_like(theta)
    )


def _slope(problem: Regression, eta: Floats, target: Floats) -> Floats:
    """Return d loss / d eta by one step for each predictor; where that is no number though all else is, the limit.

    At infinity there is no step, and a product of complex numbers with it is undefined; the formula has the limit.
    """
    slope = np.empty_like(eta)
    for k in np.ndindex(problem.outputs):
        stepped = eta.astype(complex)
        stepped[(..., *k)] += STEP * 1j
        slope[(..., *k)] = problem.loss_of(namespace(stepped), stepped, target).imag / STEP
    undefined = np.isnan(eta) | np.isnan(target).reshape(-1, *[1] * len(problem.outputs))
    return np.where(np.isnan(slope) & ~undefined, problem.slope(np, eta, target), slope)


def _gradient(problem: Regression, theta: Floats, eta: Floats, design: Floats, y: Tree, rows: Floats) -> Floats:
    """Differentiate the mean loss by each parameter, with which eta moves by a column of the design."""
    if theta.size * eta.size > MOST_STEPS:
        return rows.mean(0)
    n, p = design.shape
    size = max(1, BLOCK_NUMBERS // (p * eta[0].size))
    total = np.zeros_like(theta)
    for start in range(0, n, size):
        part = slice(start, start + size)
        total += _along_theta(problem, eta[part], design[part], take(y, part))
    found = total / n + problem.penalty(theta)
    # Complex products turn what is infinite into what is undefined; the rows have its kind and sign.
    return np.where(np.isfinite(found), found, rows.mean(0))


def _along_theta(problem: Regression, eta: Floats, design: Floats, y: Tree) -> Floats:
    """Differentiate the summed loss by each parameter, of theta's shape; all steps of one predictor at once."""
    target, weight = problem.split(y)
    n, p = design.shape
    total = np.empty((p, *problem.outputs))
    largest = np.abs(design).max(0)
    step = (STEP / np.where((largest > 0) & (largest < np.inf), largest, 1.0))[:, None]
    for k in np.ndindex(problem.outputs):
        stepped = np.broadcast_to(eta, (p, *eta.shape)).astype(complex)
        stepped[(..., *k)] += step * 1j * design.T
        loss = problem.loss_of(namespace(stepped), stepped, np.broadcast_to(target, (p, n))).imag / step
        total[(..., *k)] = loss.sum(1) if weight is None else loss @ weight
    return total
