"""What a kernel for an opaque problem is proven on: a few of the caller's own samples, since nothing else is known."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from gradkernels.case import Case, Inputs
from gradkernels.choice import Request
from gradkernels.problems.numeric import as_numpy
from gradkernels.reference import Reference
from gradkernels.tree import Tree, count, each, leaves, structure, take

PROOF_SAMPLES = 8
FEWEST = 3
ROWS_BYTES = 2**28
"""Of the reference's rows, where that leaves `FEWEST` samples."""

LOOKED_AT = 64
"""Samples among which the finite ones are looked for."""


@dataclass(frozen=True)
class Sample:
    """A few samples of the caller's to prove a kernel on; equal where one proof answers for the other.

    Attributes:
        signature: Structure, dtypes and shapes of one sample, and theta's.
        case: What is proven, with the problem that stands in for the caller's (`Problem.provable`).
        inputs: Numpy arrays; None where there are no samples, and nothing can be proven.
    """

    signature: tuple[Any, ...]
    case: Case = field(compare=False)
    inputs: Inputs | None = field(compare=False)

    @classmethod
    def of(cls, request: Request) -> Sample:
        """At most 8 of the request's finite samples, at least 3, if need be the same ones again."""
        case, arrays = request.case, request.arrays
        theta, x, y = case.provable().draw() if arrays is None else arrays
        finite = _finite(x, y)
        most = max(FEWEST, min(PROOF_SAMPLES, ROWS_BYTES // (8 * case.parameters)))
        n = min(len(finite), most)
        # Neither in the caller's order nor its reverse: a model may sort its samples, and these be sorted by chance.
        order = np.concatenate([finite[: min(n, 2)][::-1], finite[2:n]])
        rows = np.resize(order, max(n, FEWEST)) if n else slice(0, 0)
        data = each(as_numpy, take((x, y), rows))
        shapes = [(part.dtype.str, part.shape[1:]) for part in leaves(data)]
        signature = (
            structure((theta, x, y)),
            *shapes,
            *(tuple(part.shape) for part in leaves(theta)),
            min(count(y), 2),
        )
        proven = replace(case, n=max(n, FEWEST)).provable()
        if not n:
            return cls(signature, proven, None)
        drawn = case.problem.draw_theta(case.features, case.seed)
        return cls(signature, proven, proven.cast(({name: drawn[name] for name in theta}, *data)))

    @cached_property
    def reference(self) -> Reference:
        """The reference, which computing all of has refused what has no per-sample gradients."""
        assert self.inputs is not None
        reference = Reference(self.case.problem, *self.inputs)
        with np.errstate(all="ignore"):
            _ = reference.gradient
        return reference


def _finite(x: Tree, y: Tree) -> np.ndarray[Any, Any]:
    """Numbers of the first samples that are finite: what is not proves nothing."""
    n = min(count(y), LOOKED_AT)
    some = [as_numpy(part) for part in leaves(each(lambda array: array[:n], (x, y)))]
    good = np.ones(n, bool)
    for part in some:
        if part.dtype.kind == "f":
            good &= np.isfinite(part.reshape(n, -1)).all(1) if part.size else True
    return np.flatnonzero(good)
