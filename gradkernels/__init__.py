"""Gradient kernels: the same gradient every way there is, proven equal, timed, and the winner as an import.

Importing this package loads numpy and nothing heavier; torch, JAX and the harness load when they are used.

    import gradkernels as gk

    p = gk.LinearRegression()
    theta, x, y = p.draw(1000, seed=0)
    gk.gradient(p, theta, x, y)          # gradient of the mean loss
    gk.per_sample(p, theta, x, y)        # (n, p): each sample's own
    k = gk.fastest(p, "per_sample", n=1000)
    k(theta, x, y)                       # the winner, without dispatch

Shapes: `theta` is `(d+1,)` with the intercept first, or `(d,)` without one; `x` is `(n, d)`, or `(n,)` for one
feature; `y` is `(n,)`; per-sample gradients are `(n, *theta.shape)`.
"""

from gradkernels.case import Case
from gradkernels.check import Disagreement, check
from gradkernels.fastest import clipped_sum, fastest, gradient, moments, norms, per_sample
from gradkernels.kernel import Kernel, declare
from gradkernels.problems import LinearRegression
from gradkernels.quantity import Moments
from gradkernels.registry import kernel, kernels

__version__ = "0.1.0"
__all__ = [
    "Case",
    "Disagreement",
    "Kernel",
    "LinearRegression",
    "Moments",
    "check",
    "clipped_sum",
    "declare",
    "fastest",
    "gradient",
    "kernel",
    "kernels",
    "moments",
    "norms",
    "per_sample",
]
