"""What results are held against: definitions of their own on samples' gradients, each by a float64 pass of its own.

A batch of n has the samples of a small tile again and again (`batch_truth`), so that the passes of one tile tell what
any batch must give: by sample the tile's values at each sample's place, and sums with the weights of equal samples
added up. Nothing here is of the library but the single passes and the random matrices of `project`.
"""

from __future__ import annotations

from functools import cached_property, lru_cache

import numpy as np
from quantity_asks import SIZE
from quantity_definitions import DEFINITIONS
from quantity_parts import Part, folded, worst_error

from gradkernels.check import Disagreement
from gradkernels.quantities.project import matrix_blocks

SLACK = 16.0
"""What a result is left where float32 is known to move a sample's gradient, in units of that error."""

DEVIATIONS = 6
"""Standard deviations by which an inner product may be off after a random projection, of a few thousand pairs."""


class ModuleTruth:
    """Expected results of a module.

    Args:
        truth: The tile of samples and their gradients, a `batch_truth.Truth`.
    """

    distortion = DEVIATIONS * (2 / SIZE) ** 0.5

    def __init__(self, truth):
        self.truth, self.problem = truth, truth.problem
        self.tolerance = truth.problem.tolerance(truth.dtype, 0)

    @cached_property
    def rows(self):
        """Gradients of the tile, `(t, P)`."""
        return self.truth.true.rows

    @cached_property
    def scale(self):
        """Scale of each row's rounding errors, `(t,)`."""
        return self.truth.true.norm_scale

    @cached_property
    def known_errors(self):
        """The same where float32 cannot know a row as well, at a kink or where large terms cancel."""
        errors = self.truth.true.row_errors(np.arange(len(self.rows)), self.truth.dtype)
        return np.maximum(self.scale, SLACK / self.tolerance * errors)

    @cached_property
    def places(self):
        """Columns of each parameter, by name."""
        ends = np.cumsum([array.size for array in self.truth.theta.values()])
        return dict(zip(self.truth.theta, np.split(np.arange(ends[-1]), ends[:-1]), strict=True))

    @cached_property
    def lengths(self):
        """Norms over each parameter, `(t,)` by name."""
        return {name: np.linalg.norm(self.rows[:, at], axis=1) for name, at in self.places.items()}

    def inputs(self, n):
        """Theta, x and y of n samples, numpy arrays."""
        return self.truth.inputs(n)

    def error(self, ask, n, options, result):
        """Worst error of a result, relative to the scale of rounding.

        Args:
            ask: What was asked.
            n: Number of samples.
            options: Of the call.
            result: What came back.
        """
        at = self.truth.at(n)
        error = worst_error(result, DEFINITIONS[ask.label](self, self.scale, at, options))
        if self.tolerance < error < np.inf:
            error = worst_error(result, DEFINITIONS[ask.label](self, self.known_errors, at, options))
        return error

    def mapped_error(self, n, parts, result):
        """Worst error of a result that has matrices of its own, `parts(truth, at, result)`."""
        return worst_error(result, parts(self, self.truth.at(n), result))

    def kept_products(self, ask, n, options, result):
        """Worst distortion of an inner product by projections with other matrices, relative to the lengths.

        Args:
            ask: What was asked.
            n: Number of samples.
            options: Of the call.
            result: Projections `(n, size)`.

        Raises:
            Disagreement: Equal samples have other projections, or the result has another shape.
        """
        found, at = np.float64(result), self.truth.at(n)
        if found.shape != (n, options["size"]):
            raise Disagreement(f"the result is {found.shape}, expected {(n, options['size'])}")
        first = found[: min(n, len(self.rows))]
        if not np.allclose(found, first[at], atol=1e-3 * np.abs(first).max()):
            raise Disagreement("equal samples have other projections")
        rows = self.rows[: len(first)]
        lengths = np.linalg.norm(rows, axis=1)
        return float((np.abs(first @ first.T - rows @ rows.T) / np.outer(lengths, lengths)).max())

    @lru_cache(maxsize=4)  # noqa: B019  # one truth a process
    def projected(self, kind, size, seed):
        """Projections of the tile `(t, size)`, and the length of each row of the matrix."""
        value, squares = np.zeros((len(self.rows), size)), np.zeros(size)
        for at, block in matrix_blocks(self.truth.theta, size, seed, kind):
            value += self.rows[:, at] @ block.T
            squares += (block**2).sum(1)
        return value, np.sqrt(squares)


FEATURES = 10


class RegressionTruth:
    """A regression with features, and the outer products of its gradients by the formula of its slope.

    Args:
        problem: A `LinearRegression` or a `LogisticRegression`.
    """

    tolerance = 1e-10

    def __init__(self, problem):
        self.problem, self.lengths = problem, {}
        self.rng = np.random.default_rng(0)
        self.theta = 0.3 * self.rng.standard_normal(FEATURES + 1)

    @lru_cache(maxsize=1)  # noqa: B019  # one truth a process
    def inputs(self, n):
        """Theta, x and y of n samples, numpy arrays."""
        x = self.rng.standard_normal((n, FEATURES))
        eta = self.theta[0] + x @ self.theta[1:]
        if self.problem.name == "logistic":
            return self.theta, x, np.float64(self.rng.random(n) < 1 / (1 + np.exp(-eta)))
        return self.theta, x, eta + self.rng.standard_normal(n)

    def error(self, ask, n, options, result):
        """Worst error of a result, relative to the scale of rounding; arguments as of `ModuleTruth.error`."""
        theta, x, y = self.inputs(n)
        design = np.c_[np.ones(n), x]
        eta = design @ theta
        slope = 1 / (1 + np.exp(-eta)) - y if self.problem.name == "logistic" else 2 * (eta - y)
        rows = slope[:, None] * design
        sizes = np.abs(rows)
        if "groups" in options:
            rows, sizes = (folded(one, options["groups"], options["groups"].max() + 1) for one in (rows, sizes))
        return worst_error(result, [Part("", rows.T @ rows, sizes.T @ sizes)])
