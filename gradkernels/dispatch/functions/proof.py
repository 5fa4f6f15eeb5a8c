"""The proof of a kernel on some samples of a call: before it first computes their kind, and from time to time after."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

from gradkernels.backend import BACKENDS
from gradkernels.check import Disagreement, prove
from gradkernels.check.reference import Reference
from gradkernels.dispatch.request import Request
from gradkernels.kernel import Compute, Kernel
from gradkernels.tree import Tree, count, leaves, take

FUNCTION_PROOF_SAMPLES = 4
OF_SAMPLES = ("norms", "per_sample")
"""Quantities whose results for a batch must hold those of some of its samples."""

FunctionArrays = tuple[Tree, Tree, Tree]


class SampleProof:
    """What kernels are held to: some samples of a call, and their gradients one by one.

    Args:
        request: What is to be computed.
        few: Theta and those samples, numpy arrays.

    Raises:
        ValueError: The samples have no gradients of their own, which is no kernel's fault.
    """

    def __init__(self, request: Request, few: FunctionArrays) -> None:
        self._few, self._n = few, count(few[2])
        self._case = replace(request.case, n=max(1, self._n))
        self._reference = Reference(request.case.problem, *few)
        if self._n:
            _ = self._reference.gradient

    def require(self, kernel: Kernel) -> None:
        """Raise unless a kernel computes them rightly; of no samples nothing is known."""
        if self._n:
            prove(kernel, built(kernel, self._case.problem), self._case, self._few, self._reference)

    def fault(self, kernel: Kernel) -> str:
        """Return what is wrong with a kernel, nothing where nothing is."""
        try:
            self.require(kernel)
        except Exception as fault:  # whatever it is: another kernel may do
            return f"{type(fault).__name__}: {fault}"
        return ""


def audit(request: Request, kernel: Kernel, arrays: FunctionArrays, result: Any) -> None:
    """Prove a kernel on samples drawn from a call, and hold its result against theirs.

    Args:
        request: What was computed.
        kernel: By which.
        arrays: Of the call.
        result: Of it.

    Raises:
        Disagreement: It computed wrong numbers.
    """
    n = count(arrays[2])
    chosen = np.sort(random.sample(range(n), min(n, FUNCTION_PROOF_SAMPLES)))
    some = few_of(arrays, chosen)
    SampleProof(request, some).require(kernel)
    if request.case.quantity.name not in OF_SAMPLES:
        return
    library = BACKENDS["jax"]
    alone = library.get(built(kernel, request.case.problem)(*library.put(some)))
    tolerance = 2 * request.case.problem.tolerance(request.case.dtype, 1)
    for ours, theirs in zip(leaves(take(library.get(result), chosen)), leaves(alone), strict=True):
        scale = np.abs(theirs).max(initial=0.0)
        off = np.abs(ours - theirs).max(initial=0.0)
        if np.isfinite(scale) and not off <= tolerance * max(scale, 1e-30):
            raise Disagreement(f"{kernel.key} is off by {off:.3g} of {scale:.3g} for samples of a batch of {n}")


@lru_cache(maxsize=256)
def built(kernel: Kernel, problem: Any) -> Compute:
    """Return a kernel built for a problem, once for each."""
    return kernel.build(problem)


def few_of(arrays: FunctionArrays, chosen: Any = None) -> FunctionArrays:
    """Return theta and some samples of a batch, spread over it if none are named, as numpy arrays."""
    theta, x, y = BACKENDS["jax"].get(arrays)
    n = count(y)
    if chosen is None:
        chosen = np.linspace(0, n - 1, min(n, FUNCTION_PROOF_SAMPLES)).astype(int)
    return theta, *take((x, y), chosen)
