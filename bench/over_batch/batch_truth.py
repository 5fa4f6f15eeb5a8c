"""What each result of `python bench/over_batch` is held against: samples' gradients, each by a float64 pass of its own.

A problem has few samples to draw from, and a batch of n has these again and again: so the passes of one tile of
samples tell what any batch must give.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from gradkernels.case import Case
from gradkernels.check import Disagreement, Proof, prove
from gradkernels.check.reference import Reference, true_gradients
from gradkernels.check.true_gradients import TrueGradients
from gradkernels.tree import count, each, leaves, take

MAX_NORM = 1.0
"""Of clipped sums, unless a caller says another."""

PROVEN_SAMPLES = 16
"""Of the library's own proof, which takes longer than a look at the result."""


@dataclass(frozen=True)
class Truth:
    """The samples of a problem and their gradients.

    Attributes:
        problem: A module and its loss.
        dtype: Of parameters and results.
        theta: Parameters, numpy arrays by name.
        x: Inputs of a tile of samples, numpy arrays.
        y: Their targets.
    """

    problem: Any
    dtype: str
    theta: Any
    x: Any
    y: Any

    @classmethod
    def of(cls, problem, dtype="float32"):
        """Draw parameters and a tile of samples, and let the model hold the parameters."""
        tile = count(problem.prepared(*problem.example)[1])
        theta, x, y = Case(problem, "per_sample", tile, dtype).draw()
        with torch.no_grad():
            for name, own in problem.parameters().items():
                own.copy_(torch.as_tensor(theta[name]))
        return cls(problem, dtype, theta, x, y)

    @cached_property
    def true(self):
        """Gradients of the tile, float64."""
        wide = each(lambda one: np.float64(one) if one.dtype.kind == "f" else one, (self.theta, self.x, self.y))
        return true_gradients(self.problem, *wide)

    def at(self, n):
        """Numbers within the tile of n samples, `(n,)`."""
        return np.arange(n) % count(self.y)

    def inputs(self, n):
        """Theta, x and y of n samples, numpy arrays."""
        return self.theta, *take((self.x, self.y), self.at(n))

    def reference(self, n):
        """What the library's own proof of n samples needs."""
        true, at = self.true, self.at(n)
        rows = true.rows[at]
        errors = true.row_errors and (lambda samples, dtype: true.row_errors(at[samples], dtype))
        known = TrueGradients(rows, true.scale[at], rows.mean(0), true.norm_scale[at], errors)
        return Reference(self.problem, *self.inputs(n), known)

    def error(self, quantity, n, result):
        """Worst error of an entry of a result, relative to its rounding scale; infinite where it is not finite."""
        rows, scales, found = self._expected(quantity, n, result)
        worst, start = 0.0, 0
        for part in found:
            want = torch.as_tensor(rows[:, start : start + part.shape[1]], device=part.device)
            scale = torch.as_tensor(scales, device=part.device)
            start += part.shape[1]
            for first in range(0, len(part), len(want)):
                got = part[first : first + len(want)].double()
                error = ((got - want[: len(got)]).abs() / scale[: len(got), None]).max().item()
                worst = max(worst, error) if np.isfinite(error) else np.inf
        if start != rows.shape[1]:
            raise Disagreement(f"{quantity} has {start} columns, expected {rows.shape[1]}")
        return worst

    def _expected(self, quantity, n, result):
        """Rows `(tile, columns)` and scales `(tile,)` that repeat, and the result as tensors `(n, columns)`."""
        true, norms = self.true, np.linalg.norm(self.true.rows, axis=1)
        times = np.bincount(self.at(n), minlength=len(norms))
        if quantity == "per_sample":
            return true.rows, true.norm_scale, [part.reshape(n, -1) for part in self._parts(result)]
        if quantity == "norms":
            return norms[:, None], true.norm_scale, [_tensor(result).reshape(n, 1)]
        if quantity == "gradient":
            weights, slack = times / n, 1.0
        else:
            weights, slack = times * np.minimum(1.0, MAX_NORM / np.maximum(norms, 1e-300)), 2.0
        scale = np.array([slack * weights @ true.norm_scale])
        return (weights @ true.rows)[None], scale, [part.reshape(1, -1) for part in self._parts(result)]

    def _parts(self, result):
        if list(result) != list(self.theta):
            raise Disagreement(f"the result has the parameters {list(result)}, expected {list(self.theta)}")
        return [_tensor(part) for part in leaves(result)]

    def prove(self, kernel, compute, case, result, thorough):
        """Prove a kernel whose result for `case` is there already.

        Args:
            kernel: What is proven.
            compute: What `kernel.build` returned.
            case: What it computed.
            result: What came back.
            thorough: Whether to have the library's own proof too, of few samples: it calls several times more.

        Raises:
            Disagreement: It is wrong.
        """
        error, allowed = self.error(case.quantity.name, case.n, result), self.problem.tolerance(self.dtype, 0)
        some = replace(case, n=min(case.n, PROVEN_SAMPLES))
        if error > allowed:  # which rows no working precision can know, only the library's proof can tell
            thorough, some, error = True, case, 0.0
        if thorough:
            error = max(error, prove(kernel, compute, some, self.inputs(some.n), self.reference(some.n)).error)
        return Proof(error, allowed)


def _tensor(array):
    return array if isinstance(array, torch.Tensor) else torch.from_numpy(np.array(array))
