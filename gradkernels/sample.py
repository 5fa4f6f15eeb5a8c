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
from gradkernels.tree import count, each, leaves, structure, take

PROOF_SAMPLES = 8
FEWEST = 3


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
        """At most 8 of the request's samples, at least 3, if need be the same ones again."""
        case, arrays = request.case, request.arrays
        theta, x, y = case.provable().draw() if arrays is None else arrays
        n = count(y)
        # Neither in the caller's order nor its reverse: a model may sort its samples, and these be sorted by chance.
        order = np.concatenate([np.arange(min(n, 2))[::-1], np.arange(2, min(n, PROOF_SAMPLES))])
        rows = np.resize(order, min(max(n, FEWEST), PROOF_SAMPLES)) if n else slice(0, 0)
        data = each(as_numpy, take((x, y), rows))
        shapes = [(part.dtype.str, part.shape[1:]) for part in leaves(data)]
        signature = (structure((theta, x, y)), *shapes, *(tuple(part.shape) for part in leaves(theta)), min(n, 2))
        proven = replace(case, n=min(max(n, FEWEST), PROOF_SAMPLES)).provable()
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
