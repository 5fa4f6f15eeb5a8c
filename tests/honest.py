"""Kernels that compute what they should, and what is done to them so that they do not."""

from dataclasses import replace

import gradkernels as gk

P = gk.LinearRegression()
HONEST = {
    "gradient": "numpy.matmul.gradient",
    "per_sample": "numpy.broadcast.per_sample",
    "norms": "numpy.broadcast+.norms",
    "moments": "numpy.broadcast+.moments",
    "clipped_sum": "numpy.broadcast+.clipped_sum",
}


def wrapped(kernel, wrap):
    """The kernel with every compute that it builds wrapped."""
    return replace(kernel, builder=lambda problem: wrap(kernel.build(problem)))
